"""`lrid corpus music4all` makes a catalogue of the paper's data set (Santana et al. 2020).

    DIR/id_information.csv   tab-separated: id, artist, song, album_name
    DIR/id_lang.csv          tab-separated: id, lang; `INTRUMENTAL`, sic, where nobody sings
    DIR/audios/<id>.mp3      30 s each
    DIR/train.txt test.txt   optional split lists (also valid.txt): one id a line, or one number of a row of
                             id_lang.csv, counted from 0, as music4all_contrib publishes them

The paper calls the second part of music4all_contrib's 80:20 split validation. So `test.txt` becomes split `valid` where
there is no `valid.txt`. Without lists the split is made here, in the same manner.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from app.lab.corpus.catalogue import SPLITS
from app.lab.corpus.split import Made, assign, count
from app.lab.corpus.tables import Record, check_output, read_tab_separated, write_table
from app.lab.errors import CorpusError

COLUMNS = ("path", "artist", "album", "title", "language", "label", "split", "id")
INSTRUMENTAL = {"intrumental", "instrumental"}
REST = "others"
OWNER = "Music4All"


def read_music4all(folder: Path, output: Path, codes: Sequence[str], *, seed: int = 0, force: bool = False) -> Made:
    """Writes a catalogue of the tracks that are sung; languages that are no class become `others`. Raises CorpusError."""
    check_output(output, force=force)
    information = read_tab_separated(folder / "id_information.csv", ("id", "artist", "song", "album_name"), OWNER)
    about = {record["id"]: record for record in information}
    languages = read_tab_separated(folder / "id_lang.csv", ("id", "lang"), OWNER)
    if lost := next((record["id"] for record in languages if record["id"] not in about), None):
        raise CorpusError(f"{folder}: id {lost!r} of id_lang.csv is not in id_information.csv; take both of one version")
    splits, lists = _split_lists(folder, [record["id"] for record in languages])
    sung = [record for record in languages if record["lang"].strip().casefold() not in INSTRUMENTAL]
    labelled = [record for record in sung if record["lang"].strip()]
    kept = [record for record in labelled if not splits or record["id"] in splits]
    rows = [
        _row(folder, output, record, about[record["id"]], codes) | {"split": splits.get(record["id"], "")} for record in kept
    ]
    if not rows:
        raise CorpusError(f"{folder}: no track is left; are the split lists of another version?")
    if not splits:
        assign(rows, 0.2, seed)
    write_table(output, COLUMNS, rows)
    return Made(
        count(rows),
        f"left out: {len(languages) - len(sung):,} instrumental, {len(sung) - len(labelled):,} without a language, "
        f"{len(labelled) - len(kept):,} in no split list; without audio: {sum(not row['path'] for row in rows):,}",
        f"split by {', '.join(lists)}" if lists else f"split here, 80:20 by artist, seed {seed}",
    )


def _row(folder: Path, output: Path, language: Record, about: Record, codes: Sequence[str]) -> Record:
    audio = folder / "audios" / f"{language['id']}.mp3"
    code = language["lang"].strip().casefold()
    return {
        "path": os.path.relpath(audio.resolve(), output.parent.resolve()) if audio.is_file() else "",
        "artist": about["artist"],
        "album": about["album_name"],
        "title": about["song"],
        "language": code,
        "label": code if code in codes else REST,
        "id": language["id"],
    }


def _split_lists(folder: Path, ids: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns splits by id, and the names of the lists. Raises CorpusError if a line fits no track, or a track two lists."""
    paths = {split: path for split in SPLITS if (path := folder / f"{split}.txt").is_file()}
    known = {str(number): track for number, track in enumerate(ids)} | {track: track for track in ids}
    found: dict[str, str] = {}
    for split, path in paths.items():
        into = split if "valid" in paths or split == "train" else "valid"
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split(), start=1):
            if line not in known:
                raise CorpusError(f"{path.name}, line {number}: no track {line!r}; take lists of the same version")
            if found.setdefault(known[line], into) != into:
                taken = found[known[line]]
                raise CorpusError(f"{path.name}, line {number}: {line} is in split {taken} too; keep it in one list")
    return found, tuple(path.name for path in paths.values())
