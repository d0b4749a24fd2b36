"""Songs of made genres: a sound (pace, partials) and words. Two genres share each sound, two others each list of words.

So audio alone and lyrics alone leave pairs in doubt that both together tell apart: what fusion is for.
"""

from pathlib import Path

import numpy as np

from app.domain import FloatArray
from app.lab.corpus.made.sounds import MADE, RATE_HZ, beat, tone, write_sound
from app.lab.corpus.tables import write_table

# Genre: number of its sound, number of its words. In a circle, so that neither tells all.
GENRES = {"march": (0, 0), "polka": (0, 1), "ballad": (1, 1), "lullaby": (1, 2), "techno": (2, 2), "disco": (2, 0)}
BEATS_PER_MINUTE, PARTIALS, NOTE_SECONDS = (116, 66, 134), (6, 2, 12), (0.25, 0.9, 0.12)
WORDS = (
    "drum street boots flag sun crowd lights tonight step parade move shout floor glory brass",
    "village fiddle heart river dance wine letter garden autumn waiting window promise kiss home rain",
    "sleep moon star silver machine dream wire night soft pulse signal cradle slow glow silence",
)
COMMON = "the a you i we and in on my your is are to of with when where all never again oh yeah come go know see"
SPLITS = ("train",) * 5 + ("valid", "test")


def make(folder: Path, seed: int, songs: int = 42, seconds: float = 6.0) -> Path:
    """252 songs, `songs` of each genre, every third of which lacks its audio or its lyrics; returns the catalogue."""
    rng = np.random.default_rng(seed)
    records = []
    for genre, (sound, words) in GENRES.items():
        for song in range(songs):
            name, split = f"{genre}-{song + 1}", SPLITS[song % len(SPLITS)]
            lacking = ("", "audio", "", "", "lyrics", "")[song % 6] if split == "train" else ""
            if lacking != "audio":
                write_sound(folder / "audio" / f"{name}.wav", play(sound, seconds, rng))
            records.append({
                "path": "" if lacking == "audio" else f"audio/{name}.wav", "artist": f"Made Band {genre} {song + 1}",
                "title": f"Song {song + 1}", "lyrics": "" if lacking == "lyrics" else write(words, rng), "genre": genre,
                "split": split, "strength": MADE,
            })  # fmt: skip
    return write_table(folder / "songs.csv", list(records[0]), records)


def play(sound: int, seconds: float, rng: np.random.Generator) -> FloatArray:
    """(samples,): random notes over a beat, paces and levels differ from song to song."""
    note_seconds = NOTE_SECONDS[sound] * rng.uniform(0.8, 1.25)
    n_notes = int(seconds / note_seconds) + 1
    pitches_hz = 220 * 2 ** (rng.choice([0, 2, 3, 5, 7, 10], n_notes) / 12)
    notes = [tone(pitch_hz, note_seconds, PARTIALS[sound]) for pitch_hz in pitches_hz.tolist()]
    melody = np.concatenate(notes)[: round(seconds * RATE_HZ)]
    drums = beat(seconds, BEATS_PER_MINUTE[sound] * rng.uniform(0.85, 1.18), rng)
    noise = rng.normal(0, 0.02, len(melody))
    return np.asarray(rng.uniform(0.3, 0.8) * (melody + drums[: len(melody)] + noise), np.float32)


def write(words: int, rng: np.random.Generator, lines: int = 8) -> str:
    """Lines in which one word of five is of the genre's list, one of ten of another list, the others say nothing."""
    own, others, common = WORDS[words].split(), WORDS[(words + 1) % len(WORDS)].split(), COMMON.split()
    kinds = [[(own, others, common)[i] for i in rng.choice(3, 6, p=(0.2, 0.1, 0.7))] for _ in range(lines)]
    return "[Verse]\n" + "\n".join(" ".join(str(rng.choice(kind)) for kind in line) for line in kinds)
