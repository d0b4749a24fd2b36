"""`lrid corpus magnatagatune` makes a catalogue with a column `tags` of MagnaTagATune (Law et al. 2009).

    DIR/annotations_final.csv   tab-separated, cells in quotes: clip_id, a column of 0 and 1 for each of 188 tags, mp3_path
    DIR/clip_info_final.csv     optional: artist, album and title of each clip_id
    DIR/mp3/0 ... DIR/mp3/f     the clips, 29.1 s of 16 kHz each (or DIR/0 ... DIR/f)

Tags that say the same are joined, then the most popular are kept (Dalla Longa et al., §4.1; of what they joined, only
`classical` is printed). The split is the one most papers have: folders 0 to b train, c valid, d to f test.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from app.lab.corpus.split import Made, count
from app.lab.corpus.tables import Record, check_output, read_tab_separated, write_table
from app.lab.corpus.tags import SEPARATOR, TAGS
from app.lab.errors import CorpusError

OWNER = "MagnaTagATune"
ANNOTATIONS, CLIPS = "annotations_final.csv", "clip_info_final.csv"
COLUMNS = ("path", "artist", "album", "title", "tags", "split", "strength", "id")
SPLITS = dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")  # by folder

# A name, and the spellings that are joined under it: plurals, misspellings, and ways to say who sings.
JOINED = """
beat: beats | chant: chanting | choir: choral, chorus | classical: clasical, classic | drum: drums
electro: electronic, electronica, electric | fast: fast beat, quick | flute: flutes | guitar: guitars | hard: hard rock
female: female singer, female singing, female vocal, female vocals, female voice, woman, woman singing, women
harpsichord: harpsicord | heavy: heavy metal, metal | horn: horns | india: indian | jazz: jazzy
male: male singer, male vocal, male vocals, male voice, man, man singing, men | no beat: no drums
no vocal: no singer, no singing, no vocals, no voice, no voices, instrumental | opera: operatic | orchestra: orchestral
quiet: silence | singing: singer | space: spacey | string: strings | synth: synthesizer | violin: violins
vocal: vocals, voice, voices | weird: strange
"""


def joined_names() -> dict[str, str]:
    """Maps each spelling to the name that it is joined under."""
    groups = [group.split(":") for line in JOINED.strip().splitlines() for group in line.split("|")]
    return {other.strip(): name.strip() for name, others in groups for other in others.split(",")}


def read_magnatagatune(folder: Path, output: Path, *, n_tags: int = 50, strength: str = "", force: bool = False) -> Made:
    """Writes a catalogue of the clips that any of the `n_tags` most popular tags is true of. Raises CorpusError."""
    check_output(output, force=force)
    records = read_tab_separated(folder / ANNOTATIONS, ("clip_id", "mp3_path"), OWNER)
    tags = [column for column in records[0] if column not in {"clip_id", "mp3_path"}] if records else []
    names = joined_names()
    clips = [(record, {names.get(tag, tag) for tag in tags if record[tag].strip() == "1"}) for record in records]
    popular = Counter(tag for _, own in clips for tag in sorted(own)).most_common(n_tags)
    kept = [tag for tag, _ in popular]
    tagged = [(record, [tag for tag in kept if tag in own]) for record, own in clips]
    tagged = [(record, own) for record, own in tagged if own]
    clip_info = folder / CLIPS
    told = read_tab_separated(clip_info, ("clip_id", "artist", "album", "title"), OWNER) if clip_info.is_file() else []
    about = {record["clip_id"]: record for record in told}
    made = (_row(folder, output, record, own, about.get(record["clip_id"], {})) for record, own in tagged)
    rows = [row | {"strength": strength} for row in made if row is not None]
    if not rows:
        raise CorpusError(f"{folder}: no clip is left; expected the clips in folders 0 to f of {folder / 'mp3'}")
    write_table(output, COLUMNS, rows)
    return Made(
        count(rows, TAGS),
        f"{len(tags)} tags, {len({names.get(tag, tag) for tag in tags})} after joining those that say the same\n"
        f"left out: {len(clips) - len(tagged):,} clips without one of these tags, {len(tagged) - len(rows):,} without audio",
        f"{len(rows):,} clips, split by folder",
    )


def _row(folder: Path, output: Path, record: Record, tags: Sequence[str], about: Record) -> Record | None:
    """Returns None for a clip without audio."""
    given = record["mp3_path"].strip()
    split = SPLITS.get(given.partition("/")[0])
    if split is None:
        raise CorpusError(f"{ANNOTATIONS}, clip {record['clip_id']}: mp3_path {given!r} is in none of the folders 0 to f")
    audio = next((path for path in (folder / "mp3" / given, folder / given) if path.is_file()), None)
    if audio is None or not audio.stat().st_size:
        return None
    told = {name: about.get(name, "") for name in ("artist", "album", "title")}
    place = os.path.relpath(audio.resolve(), output.parent.resolve())
    return told | {"path": place, "tags": SEPARATOR.join(tags), "split": split, "id": record["clip_id"]}
