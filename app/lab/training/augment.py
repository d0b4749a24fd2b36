"""Random changes to training audio that leave the language as it is: speed, level, channel, and hidden mel bands."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from app.domain import FloatArray

SPEED = 0.08  # largest relative change of speed and pitch together
LEVEL_DB = 6.0  # largest change of level, in the spectrogram's own dB (10 log10 of magnitude)
TILT_DB = 6.0  # largest change at the ends of the spectrum of a smooth random channel
HIDDEN_BANDS = 12  # most mel bands hidden at once (SpecAugment, Park et al. 2019)


def resample_to(samples: FloatArray, length: int) -> FloatArray:
    """Linear interpolation to `length` samples: faster and higher, or slower and lower."""
    if len(samples) == length:
        return samples
    positions = np.linspace(0, len(samples) - 1, length, dtype=np.float64)
    return np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)


def colour(x_audio: Tensor, rng: np.random.Generator) -> Tensor:
    """(n, 128, t) dB → the same: each item gets a level, a smooth channel, and a few bands set to its mean."""
    n, bands, _ = x_audio.shape
    position = np.linspace(0, 1, bands)  # 0 lowest band, 1 highest
    change = rng.uniform(-LEVEL_DB, LEVEL_DB, (n, 1)) + sum(
        rng.uniform(-TILT_DB, TILT_DB, (n, 1)) * np.cos(np.pi * k * position) / k for k in (1, 2, 3)
    )  # (n, 128)
    coloured = x_audio + torch.from_numpy(np.asarray(change, np.float32))[:, :, None].to(x_audio.device)
    means = coloured.mean(dim=(1, 2))  # (n,)
    for i in range(n):
        width = int(rng.integers(0, HIDDEN_BANDS + 1))
        start = int(rng.integers(0, bands - width + 1))
        coloured[i, start : start + width] = means[i]
    return coloured
