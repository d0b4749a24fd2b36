"""Made clips in MagnaTagATune's own layout, whose tags say what is heard: instruments, beat, loudness, noise.

    DIR/mp3/0 ... f, DIR/annotations_final.csv, DIR/clip_info_final.csv, DIR/songs.csv

Every tag is drawn by itself. One of its spellings is written, as people do.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.domain import FloatArray
from app.lab.corpus.made.sounds import MADE, RATE_HZ, beat, tone, write_sound
from app.lab.corpus.magnatagatune import ANNOTATIONS, CLIPS, read_magnatagatune

SECONDS = 29.124
FOLDERS = "0123456789abcccdef"  # three times as many for validation as MagnaTagATune has
ROUNDS = 14  # 168 clips to train, 42 for validation, 42 to test
SPELLINGS = {
    "flute": ["flute", "flutes"],
    "cello": ["cello"],
    "guitar": ["guitar", "guitars"],
    "synth": ["synth", "synthesizer"],
    "beat": ["beat", "beats"],
    "no beat": ["no beat", "no drums"],
    "fast": ["fast", "quick"],
    "loud": ["loud"],
    "quiet": ["quiet", "silence"],
    "wind": ["wind"],
}


def make(folder: Path, seed: int, *, rounds: int = ROUNDS, seconds: float = SECONDS) -> Path:
    """Makes the clips and their tables; returns the catalogue."""
    rng = np.random.default_rng(seed)
    columns = [spelling for own in SPELLINGS.values() for spelling in own]
    annotations, clips = [], []
    for number in range(len(FOLDERS) * rounds):
        tags = drawn(rng)
        place = f"{FOLDERS[number % len(FOLDERS)]}/made-{number:04}.mp3"
        write_sound(folder / "mp3" / place, sounding(tags, seconds, rng))
        written = {str(rng.choice(SPELLINGS[tag])) for tag in sorted(tags)}
        annotations.append([number, *(int(column in written) for column in columns), place])
        clips.append([number, f"Made artist {number}", "Made", f"Made clip {number}"])
    _write(folder / ANNOTATIONS, ["clip_id", *columns, "mp3_path"], annotations)
    _write(folder / CLIPS, ["clip_id", "artist", "album", "title"], clips)
    read_magnatagatune(folder, folder / "songs.csv", strength=MADE)
    return folder / "songs.csv"


def drawn(rng: np.random.Generator) -> set[str]:
    """Draws the tags of a clip: one instrument at least."""
    instruments = ["flute", "cello", "guitar", "synth"]
    tags = {one for one in instruments if rng.random() < 0.3} or {str(rng.choice(instruments))}
    tags |= {"fast", "beat"} if rng.random() < 0.3 else {str(rng.choice(["beat", "no beat"]))}
    tags |= {str(rng.choice(["loud", "quiet", ""]))} - {""}
    return tags | ({"wind"} if rng.random() < 0.25 else set())


def sounding(tags: set[str], seconds: float, rng: np.random.Generator) -> FloatArray:
    """(samples,) of a clip of which these tags are true."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = rng.normal(0, 0.002, len(time))
    if "flute" in tags:
        sound += tone(rng.uniform(700, 1400), seconds, 1)
    if "cello" in tags:
        sound += tone(rng.uniform(70, 140), seconds, 12)
    if "guitar" in tags:  # plucked
        sound += tone(rng.uniform(180, 360), seconds, 6) * 2 * np.exp(-6 * np.mod(time, rng.uniform(0.4, 0.8)))
    if "synth" in tags:  # a pitch that sweeps
        sound += 0.3 * np.sign(np.sin(2 * np.pi * rng.uniform(300, 600) * time + 60 * np.sin(2 * np.pi * 0.3 * time)))
    if "beat" in tags:
        sound += 2 * beat(seconds, rng.uniform(160, 200) if "fast" in tags else rng.uniform(60, 90), rng)
    if "wind" in tags:
        sound += rng.normal(0, 0.1, len(time))
    level = 0.5 if "loud" in tags else 0.02 if "quiet" in tags else 0.1
    return np.asarray(level * sound / np.abs(sound).max(), np.float32)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Tab-separated, every cell in quotes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        writer.writerows(rows)
