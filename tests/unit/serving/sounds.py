"""Sounds by number, for listeners of 22,050 Hz."""

import numpy as np

from app.domain import FloatArray
from app.families.golden import Tone

SECOND = 22_050  # samples


def sound(seed: int) -> FloatArray:
    """A second of something: tones, noise, near silence and clipping."""
    rng = np.random.default_rng(seed)
    tone = Tone(pitch_hz=float(rng.uniform(80, 1500))).samples(SECOND, SECOND)
    level = rng.choice([1e-4, 0.1, 1.0, 5.0])
    return np.clip(level * (tone + rng.uniform(0, 1) * rng.standard_normal(SECOND)), -1, 1).astype(np.float32)
