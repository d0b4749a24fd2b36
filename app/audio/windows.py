"""Which 30 s of a track are listened to.

The plan. Leading and trailing silence are skipped; what lies between is the *span*.
- A span shorter than a window gives one window: the samples repeated end to end until it is full (`fit_window`).
- A longer span gives `n = ceil((span - SLACK_SECONDS) / window)` windows, at most `max_windows`. Their starts are
  spread evenly from the first possible start to the last, so that they overlap a little, cover the span when `n` was
  not cut down to `max_windows`, and sample it evenly when it was. A single window sits in the middle.
- A window that is silent from end to end is dropped. A track that is silent has no windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.domain import FloatArray

# Encoders pad the end by up to 0.1 s: a 30 s clip must not cost two windows for that.
SLACK_SECONDS = 0.25
_BLOCK_SAMPLES = 1 << 14


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a track, in track time."""

    start_seconds: float
    stop_seconds: float

    @property
    def seconds(self) -> float:
        return self.stop_seconds - self.start_seconds


def fit_window(samples: FloatArray, window_samples: int) -> FloatArray:
    """(n,) → (window_samples,): repeated end to end when short, cut when long. Training and serving share it."""
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"expected a non-empty vector of samples, got shape {samples.shape}")
    if samples.size >= window_samples:
        return samples[:window_samples]
    return np.resize(samples, window_samples)


def plan_windows(span: Span, window_seconds: float, max_windows: int) -> tuple[Span, ...]:
    """The windows to cut from a sounding span, in order of time; `window.seconds` is shorter only for a short span."""
    if span.seconds <= 0:
        return ()
    if span.seconds <= window_seconds:
        return (span,)
    count = min(max(math.ceil((span.seconds - SLACK_SECONDS) / window_seconds), 1), max_windows)
    room = span.seconds - window_seconds
    if count == 1:
        starts = [span.start_seconds + room / 2]
    else:
        starts = [span.start_seconds + room * index / (count - 1) for index in range(count)]
    return tuple(Span(start, start + window_seconds) for start in starts)


def first_sound(samples: FloatArray, peak: float) -> int | None:
    """Index of the first sample that reaches `peak`, or None."""
    for start in range(0, samples.size, _BLOCK_SAMPLES):  # sound mostly starts in the first block
        loud = np.abs(samples[start : start + _BLOCK_SAMPLES]) >= peak
        index = int(loud.argmax())
        if loud[index]:
            return start + index
    return None


def last_sound(samples: FloatArray, peak: float) -> int | None:
    """Index of the last sample that reaches `peak`, or None."""
    from_end = first_sound(samples[::-1], peak)
    return None if from_end is None else samples.size - 1 - from_end
