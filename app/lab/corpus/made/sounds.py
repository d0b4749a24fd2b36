"""Sounds for made songs: tones, a beat, and files of them."""

from pathlib import Path

import numpy as np
import soundfile

from app.domain import FloatArray

RATE_HZ = 16_000
MADE = "made"  # what the column `strength` says of such songs


def tone(pitch_hz: float, seconds: float, n_partials: int = 4) -> FloatArray:
    """(samples,) of a harmonic tone whose partials fall off as 1/n."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    partials = [np.sin(2 * np.pi * pitch_hz * n * time) / n for n in range(1, n_partials + 1)]
    return np.asarray(np.sum(partials, axis=0) * 0.3, np.float32)


def beat(seconds: float, beats_per_minute: float, rng: np.random.Generator) -> FloatArray:
    """(samples,) of short noise bursts at a steady pace."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    since = np.mod(time, 60 / beats_per_minute)
    return np.asarray(rng.normal(0, 0.2, time.shape) * np.exp(-since * 30), np.float32)


def write_sound(path: Path, samples: FloatArray) -> None:
    """Writes 16-bit PCM to a WAV, or an MP3, as the suffix says; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(samples, -1, 1), RATE_HZ)
