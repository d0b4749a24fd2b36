"""Plans the windows of a track that are listened to, and their order.

The plan. Leading and trailing silence are skipped where they are known; what lies between is the *span*.
- A span shorter than a window gives one window, filled up by repetition or with silence (`fit_window`).
- A longer span gives `n = ceil((span - SLACK_SECONDS) / window)` windows, at most `max_windows`. Their starts are
  spread evenly from the first possible start to the last, so that they overlap a little and cover the span when `n` was
  not cut down to `max_windows`. A single window sits in the middle.
- With `positions`, windows that do not cover the span have their middles there; windows that do are only ordered: the
  one nearest to the first position comes first. A timeline (`whole`) is always spread evenly, in order of time.
- A window that is silent from end to end is replaced by the next of the plan. A track that is silent has no windows.
"""

import math
from typing import Literal

import numpy as np

from app.audio.spec import WindowRequest
from app.domain import FloatArray, Span

# Encoders pad the end by up to 0.1 s: a 30 s clip must not cost two windows for that.
SLACK_SECONDS = 0.25
_BLOCK_SAMPLES = 1 << 14


def fit_window(samples: FloatArray, window_samples: int, padding: Literal["repeat", "silence"] = "repeat") -> FloatArray:
    """(n,) → (window_samples,): padded when short, cut when long. Training and serving share it."""
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"expected a non-empty vector of samples, got shape {samples.shape}")
    if samples.size >= window_samples:
        return samples[:window_samples]
    if padding == "repeat":
        return np.resize(samples, window_samples)
    return np.pad(samples, (0, window_samples - samples.size))


def plan_windows(span: Span, request: WindowRequest) -> tuple[Span, ...]:
    """The windows to cut from a sounding span, in plan order; `window.seconds` is shorter only for a short span."""
    spec, window_seconds = request.spec, request.spec.window_seconds
    if span.seconds <= 0:
        return ()
    if span.seconds <= window_seconds:
        return (span,)
    needed = max(math.ceil((span.seconds - SLACK_SECONDS) / window_seconds), 1)
    count = min(needed, request.max_windows)
    room = span.seconds - window_seconds
    shares = [index / (count - 1) for index in range(count)] if count > 1 else [0.5]
    if spec.positions and not request.whole:
        wanted = [(position * span.seconds - window_seconds / 2) / room for position in spec.positions]
        within = [min(max(share, 0.0), 1.0) for share in wanted]
        shares = within[:count] if count < needed and count <= len(within) else _ordered(shares, within)
    starts = [span.start_seconds + room * share for share in shares]
    return tuple(Span(start, start + window_seconds) for start in starts)


def _ordered(shares: list[float], wanted: list[float]) -> list[float]:
    """The same shares, those nearest to the wanted ones first, the others after them in order of time."""
    left, chosen = list(shares), []
    for share in wanted[: len(shares)]:
        chosen.append(min(left, key=lambda one: abs(one - share)))
        left.remove(chosen[-1])
    return chosen + left


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
