"""Decoded frames of any sample format and layout → mono float32."""

import math
from collections.abc import Mapping
from typing import Any

import av
import numpy as np

from app.audio.spec import MAX_CHANNELS, MAX_DSD_RATE_HZ, MIN_SAMPLE_RATE_HZ
from app.domain import FloatArray

_SAMPLE_FORMATS: Mapping[str, tuple[np.dtype[Any], float, float]] = {  # type, silence, full scale
    "u8": (np.dtype(np.uint8), 128.0, 2.0**7),
    "s16": (np.dtype(np.int16), 0.0, 2.0**15),
    "s32": (np.dtype(np.int32), 0.0, 2.0**31),
    "s64": (np.dtype(np.int64), 0.0, 2.0**63),
    "flt": (np.dtype(np.float32), 0.0, 1.0),
    "dbl": (np.dtype(np.float64), 0.0, 1.0),
}
_CANCELLED = 0.1  # of a channel's level: a quieter mean means that the channels cancel each other
_COARSE = 16  # samples
_SPARSE = 16  # of so many such stretches one is looked at


def is_readable(frame: av.AudioFrame) -> bool:
    """Whether rate and channels are within bounds, and `to_mono` knows the sample format."""
    rate_fits = MIN_SAMPLE_RATE_HZ <= frame.sample_rate <= MAX_DSD_RATE_HZ
    return rate_fits and 1 <= frame.layout.nb_channels <= MAX_CHANNELS and frame.format.name.rstrip("p") in _SAMPLE_FORMATS


def to_mono(frame: av.AudioFrame, silence_peak: float) -> FloatArray:
    """(n,) float32, full scale 1.0: the mean of the channels; where they cancel each other, the first one that sounds.

    `AudioFrame.to_ndarray` would read beyond the eighth of eight planes (PyAV 18.1), and crash.
    """
    channels = frame.layout.nb_channels
    dtype, zero, scale = _SAMPLE_FORMATS[frame.format.name.removesuffix("p")]
    if frame.format.is_planar:
        planes = [_floats(plane, dtype, frame.samples) for plane in frame.planes[:channels]]
        mono = planes[0] + planes[1] if channels > 1 else planes[0].copy()
        for plane in planes[2:]:
            mono += plane
        mono *= np.float32(1 / (channels * scale))
        step = 1
    else:
        values, step = _floats(frame.planes[0], dtype, frame.samples * channels), channels
        planes = [values[channel:] for channel in range(channels)]
        mono = values.reshape(-1, channels) @ np.full(channels, 1 / (channels * scale), np.float32)
    if zero:
        mono -= np.float32(zero / scale)
    if channels == 1:
        return mono
    level = _level(mono)
    for plane in planes:
        own_level = _level(plane, step, zero) / scale
        if own_level >= silence_peak:
            return mono if level > _CANCELLED * own_level else (plane[::step] - np.float32(zero)) * np.float32(1 / scale)
    return mono


def _floats(plane: Any, dtype: np.dtype[Any], count: int) -> FloatArray:
    """(count,) the first samples of a plane."""
    return np.frombuffer(plane, dtype, count).astype(np.float32, copy=False)


def _level(samples: FloatArray, step: int = 1, zero: float = 0.0) -> float:
    """Root mean square of what is below a few kHz: coders leave noise above it where channels cancel each other.

    `samples`: only each `step`th is looked at, beginning with the first. `zero`: the value of silence.
    """
    mean = np.zeros(_COARSE * step, np.float32)
    mean[::step] = 1 / _COARSE
    stretches = samples[: samples.size - samples.size % mean.size].reshape(-1, mean.size)
    coarse = stretches[::_SPARSE] @ mean - np.float32(zero)
    return math.sqrt(coarse @ coarse / coarse.size) if coarse.size else 0.0
