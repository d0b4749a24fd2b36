"""Made songs for `multimodal`: a voice with the vowels and the pace of its language, an accompaniment, and sessions."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.domain import FloatArray
from app.lab.corpus.made.sessions import session_embeddings
from app.lab.corpus.made.sounds import MADE, RATE_HZ, beat, tone, write_sound
from app.lab.corpus.tables import write_table

LANGUAGES = ("de", "en", "es", "fr", "hi", "it", "ja", "pa", "ta", "te", "others")
SONGS = 2  # of an artist; a language has as many artists as `SPLITS` says
SPLITS = ("train",) * 8 + ("valid",) * 2 + ("test",) * 2  # by artist, near the paper's 70 : 15 : 15
N_PARTIALS, PHRASES = 24, 2


@dataclass(frozen=True, slots=True)
class Sound:
    """Says how a language is sung, and accompanied."""

    formants_hz: FloatArray  # (vowels, 2)
    syllable_seconds: float
    chord_hz: float
    beats_per_minute: float


def make(folder: Path, seed: int, languages: tuple[str, ...] = LANGUAGES, songs: int = SONGS) -> Path:
    """264 songs of six to nine seconds, `songs` of each artist; returns the catalogue."""
    rng = np.random.default_rng(seed)
    sounds = {language: _sound(rng) for language in languages}
    records = []
    for language in languages:
        for artist, split in enumerate(SPLITS):
            voice_hz = rng.uniform(120, 320)
            for song in range(songs):
                name = f"{language}-{artist:02d}-{song}.wav"
                write_sound(folder / name, _song(sounds, language, voice_hz, rng))
                records.append({
                    "path": name, "artist": f"Made artist {language} {artist}", "title": f"Made song {song}",
                    "language": language, "split": split, "strength": MADE,
                })  # fmt: skip
    vectors = session_embeddings([record["language"] for record in records], seed)
    for record, vector in zip(records, vectors.tolist(), strict=True):
        record["consumption"] = json.dumps([round(number, 4) for number in vector])
    return write_table(folder / "songs.csv", list(records[0]), records)


def _sound(rng: np.random.Generator) -> Sound:
    first, second = rng.uniform(280, 850, 4), rng.uniform(900, 2600, 4)
    vowels = np.stack([first, second], axis=1).astype(np.float32)
    return Sound(vowels, rng.uniform(0.15, 0.4), rng.uniform(80, 160), rng.uniform(70, 150))


def _song(sounds: dict[str, Sound], language: str, voice_hz: float, rng: np.random.Generator) -> FloatArray:
    """(samples,): phrases with rests between them. A third of the songs has the accompaniment of another language."""
    own = sounds[language]
    around = sounds[rng.choice(list(sounds))] if rng.random() < 1 / 3 else own
    phrases = []
    for _ in range(PHRASES):
        voice = _phrase(own, voice_hz, rng.uniform(2.5, 3.5), rng)
        seconds = len(voice) / RATE_HZ
        band = 0.3 * tone(around.chord_hz, seconds) + beat(seconds, around.beats_per_minute, rng)
        phrases += [voice + 0.4 * band[: len(voice)], np.zeros(round(rng.uniform(0.4, 0.8) * RATE_HZ), np.float32)]
    return np.concatenate(phrases)


def _phrase(sound: Sound, voice_hz: float, seconds: float, rng: np.random.Generator) -> FloatArray:
    """(samples,) of sung syllables, each a vowel on a note, and a breath of noise before it."""
    syllables = []
    for _ in range(max(1, round(seconds / sound.syllable_seconds))):
        n = round(sound.syllable_seconds * rng.uniform(0.8, 1.2) * RATE_HZ)
        pitch = voice_hz * 2 ** (rng.integers(-5, 6) / 12)
        partials = pitch * np.arange(1, N_PARTIALS + 1)
        vowel = sound.formants_hz[rng.integers(len(sound.formants_hz))] * rng.normal(1, 0.06)
        loud = np.exp(-(((partials[:, None] - vowel) / 120) ** 2)).sum(axis=1) + 0.03  # (partials,)
        time = np.arange(n) / RATE_HZ
        note = (loud[:, None] * np.sin(2 * np.pi * partials[:, None] * time)).sum(axis=0)
        note *= 0.15 * np.sin(np.pi * np.arange(n) / n) ** 0.5
        note[: n // 6] += rng.normal(0, 0.04, n // 6)
        syllables.append(note.astype(np.float32))
    return np.concatenate(syllables)
