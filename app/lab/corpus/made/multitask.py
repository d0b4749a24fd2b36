"""Songs of made artists in made languages: an artist is a voice (formants, vibrato), a language a rhythm of syllables."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.domain import FloatArray
from app.lab.corpus.made.sounds import MADE, RATE_HZ, write_sound
from app.lab.corpus.tables import write_table

LANGUAGES = ("en", "es", "fr", "de")  # codes only: nothing of these languages is in the songs
ARTISTS_PER_LANGUAGE = 4  # as in the paper (§3.1)
SPLITS = ("train",) * 8 + ("valid", "test")  # 80:10:10, by song


@dataclass(frozen=True, slots=True)
class Voice:
    """What all songs of an artist have in common."""

    formants_hz: FloatArray  # (3,)
    lowest_hz: float
    vibrato: float


def make(folder: Path, seed: int, artists: int = ARTISTS_PER_LANGUAGE, songs: int = 10, seconds: float = 12.0) -> Path:
    """160 songs of four segments, by `artists` of each language, `songs` each; returns the catalogue."""
    rng = np.random.default_rng(seed)
    records = []
    for language, code in enumerate(LANGUAGES):
        for artist in range(artists):
            voice = Voice(
                rng.uniform((300, 900, 2200), (900, 2200, 3600)).astype(np.float32),
                float(rng.uniform(90, 260)),
                float(rng.uniform(0, 0.03)),
            )
            for song in range(songs):
                name = f"{code}-{artist + 1}-{song + 1}"
                write_sound(folder / "audio" / f"{name}.wav", sing(voice, language, seconds, rng))
                records.append({
                    "path": f"audio/{name}.wav", "artist": f"Made Voice {code} {artist + 1}", "title": f"Song {song + 1}",
                    "language": code, "split": SPLITS[song - songs], "strength": MADE,
                })  # fmt: skip
    return write_table(folder / "songs.csv", list(records[0]), records)


def sing(voice: Voice, language: int, seconds: float, rng: np.random.Generator) -> FloatArray:
    """(samples,): random notes; the language decides how long syllables are, and how often one is left out."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    syllable_seconds = (0.12, 0.2, 0.3, 0.42)[language] * rng.uniform(0.9, 1.1)
    number = (time / syllable_seconds).astype(int)
    notes = voice.lowest_hz * 2 ** (rng.choice([0, 2, 4, 7, 9, 12], number[-1] + 1) / 12)
    sounding = rng.random(number[-1] + 1) > (0.0, 0.15, 0.3, 0.1)[language]
    pitch = notes[number] * (1 + voice.vibrato * np.sin(2 * np.pi * 5.5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    envelope = np.sin(np.pi * np.mod(time / syllable_seconds, 1)) ** (0.5, 1, 2, 4)[language] * sounding[number]
    sound = np.zeros_like(time)
    for harmonic in range(1, 25):
        near = np.exp(-(((harmonic * notes[:, None] - voice.formants_hz) / 250) ** 2)).sum(axis=1)  # (n_notes,)
        sound += np.sin(harmonic * phase) * (near * (harmonic * notes < 0.48 * RATE_HZ))[number]
    noise = rng.normal(0, 0.01, time.shape)
    return np.asarray(0.25 * rng.uniform(0.5, 1.5) * envelope * sound + noise, np.float32)
