"""Segments of uninterrupted voice: what is left of the vocals when the silence is removed (§3.1.2)."""

from collections.abc import Callable
from importlib.metadata import entry_points

import numpy as np
import numpy.typing as npt
from torch import Tensor

from app.errors import ReleaseError
from app.families.multimodal.manifest import SegmentConfig

ENTRY_POINTS = "lrid.separators"  # the group in which a package announces a separator: its name → a function that makes it
# Separates vocals, as Spleeter does for the paper: (n, s) float32 of mixes at the release's rate → (n, s), row by row.
Separator = Callable[[Tensor], Tensor]


def separator_of(name: str | None) -> Separator | None:
    """The installed separator of that name. Raises ReleaseError if there is none."""
    if name is None:
        return None
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ReleaseError(f"separation {name!r} is not installed; installed ({ENTRY_POINTS}): {known}")
    separator: Separator = found[name].load()()
    return separator


def voiced(vocals: Tensor, rate_hz: int, config: SegmentConfig) -> list[list[slice]]:
    """(n, s) → of each row the samples of its segments, the longest `most_segments` of them, in order of time."""
    frame = max(1, round(config.frame_seconds * rate_hz))
    power = vocals.unfold(1, frame, frame).square().mean(dim=2)  # (n, s // frame)
    loud = (power > 10 ** (config.silence_dbfs / 10)).cpu().numpy()
    return [[slice(start * frame, stop * frame) for start, stop in _intervals(row, config)] for row in loud]


def _intervals(loud: npt.NDArray[np.bool_], config: SegmentConfig) -> list[tuple[int, int]]:
    """(n_frames,) → first frame of each segment, and the one after its last."""
    frames = np.flatnonzero(loud)
    if not len(frames):
        return []
    breaks = np.flatnonzero(np.diff(frames) - 1 >= config.gap_seconds / config.frame_seconds)
    starts, stops = frames[np.append(0, breaks + 1)], frames[np.append(breaks, -1)] + 1
    found = [(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]
    long = [one for one in found if (one[1] - one[0]) * config.frame_seconds >= config.least_seconds]
    return sorted(sorted(long, key=lambda one: one[0] - one[1])[: config.most_segments])
