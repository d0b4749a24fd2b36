"""Decoded frames of any sample format and layout → mono float32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import av
import numpy as np

from app.domain import FloatArray

_SAMPLE_FORMATS: Mapping[str, tuple[np.dtype[Any], float, float]] = {  # type, silence, full scale
    "u8": (np.dtype(np.uint8), 128.0, 2.0**7),
    "s16": (np.dtype(np.int16), 0.0, 2.0**15),
    "s32": (np.dtype(np.int32), 0.0, 2.0**31),
    "flt": (np.dtype(np.float32), 0.0, 1.0),
    "dbl": (np.dtype(np.float64), 0.0, 1.0),
}
_CANCELLED = 0.1  # of a channel's level: a quieter mean means that the channels cancel each other
_COARSE = 16  # samples


def has_known_samples(frame: av.AudioFrame) -> bool:
    """Whether `to_mono` knows the frame's sample format."""
    return frame.format.name.removesuffix("p") in _SAMPLE_FORMATS


def to_mono(frame: av.AudioFrame, silence_peak: float) -> FloatArray:
    """(n,) float32, full scale 1.0: the mean of the channels; where they cancel each other, the first one that sounds.

    `AudioFrame.to_ndarray` would read beyond the eighth of eight planes (PyAV 18.1), and crash.
    """
    channels = frame.layout.nb_channels
    dtype, zero, scale = _SAMPLE_FORMATS[frame.format.name.removesuffix("p")]
    planes: Any  # (channels, n) float32, not scaled yet
    if frame.format.is_planar:
        planes = [_floats(plane, dtype, frame.samples) for plane in frame.planes[:channels]]
        mono: FloatArray = sum(planes[1:], start=planes[0]) * np.float32(1 / (channels * scale))
    else:
        interleaved = _floats(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels)
        planes = interleaved.T
        mono = interleaved @ np.full(channels, 1 / (channels * scale), np.float32)
    if zero:
        mono -= np.float32(zero / scale)
    if channels == 1:
        return mono
    level = _level(mono)
    for plane in planes:
        own = plane - np.float32(zero) if zero else plane
        own_level = _level(own) / scale
        if own_level >= silence_peak:
            return mono if level > _CANCELLED * own_level else own * np.float32(1 / scale)
    return mono


def _floats(plane: Any, dtype: np.dtype[Any], count: int) -> FloatArray:
    """(count,) the first samples of a plane."""
    return np.frombuffer(plane, dtype, count).astype(np.float32, copy=False)


def _level(samples: FloatArray) -> float:
    """Root mean square of what is left under some kHz: coders leave noise above it where channels cancel each other."""
    with np.errstate(all="ignore"):  # samples that are not finite are refused later
        groups = samples[: samples.size - samples.size % _COARSE].reshape(-1, _COARSE)
        coarse = groups @ np.full(_COARSE, 1 / _COARSE, np.float32)
        return math.sqrt(coarse @ coarse / coarse.size) if coarse.size else 0.0
