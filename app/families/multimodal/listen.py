"""Listen: windows → embeddings of their segments of voice, and the histogram of their sound.

Segments are of uninterrupted voice: what is left of the vocals when the silence is removed (§3.1.2).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.contract import Backend, Listen, Precision, Target
from app.families.multimodal.manifest import SegmentConfig
from app.families.multimodal.timbral import TimbralHistogram
from app.families.parts.whisper import Ears

ENTRY_POINTS = "lrid.separators"  # the group in which a package announces a separator: its name → a function that makes it
# Separates vocals, as Spleeter does for the paper: (n, s) float32 of mixes at the release's rate → (n, s), row by row.
Separator = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class WindowFeatures:
    """n windows of a song, taken apart."""

    embeddings: FloatArray  # (n_segments, n_state)
    seconds: FloatArray  # (n_segments,)
    owner: np.ndarray  # (n_segments,) the window of each
    timbral: FloatArray  # (2k,) of the song: maxima, then means; empty without a codebook


def taken_apart(features: FloatArray, n_state: int, config: SegmentConfig) -> WindowFeatures:
    """(n, n_features) of the listener's → segments and the histogram of all windows together."""
    n_segments = config.most_segments * (n_state + 1)
    segments = features[:, :n_segments].reshape(len(features), config.most_segments, n_state + 1)
    owner, place = np.nonzero(segments[:, :, n_state] > 0)
    chosen = segments[owner, place]
    maximum, mean = np.split(features[:, n_segments:-1], 2, axis=1)
    frames = features[:, -1:]
    pooled = [maximum.max(axis=0), (mean * frames).sum(axis=0) / max(1.0, float(frames.sum()))]
    return WindowFeatures(chosen[:, :n_state], chosen[:, n_state], owner, np.concatenate(pooled))


class SegmentListener:
    """Implements `contract.Listener`; the numbers of a window are as `taken_apart` reads them."""

    def __init__(self, ears: Ears, timbral: TimbralHistogram | None, config: SegmentConfig) -> None:
        """Raises ReleaseError if the separator is not installed."""
        self._ears = ears
        self._timbral = timbral
        self._config = config
        self._separator = separator_of(config.separation)
        self._n_state = ears.config.n_state
        self.n_features = config.most_segments * (self._n_state + 1) + (2 * len(timbral.weights) if timbral else 0) + 1

    def precisions(self, backend: Backend) -> tuple[Precision, ...]:
        """Those of the ears; the rest runs in fp32."""
        return self._ears.precisions(backend)

    def prepare(self, target: Target) -> Listen:
        """Raises ReleaseError where the ears cannot run."""
        histogram = copy.deepcopy(self._timbral).to(target.device) if self._timbral else None
        return partial(self._listen, self._ears.prepare(target), histogram)

    def forget(self) -> None:
        self._ears.forget()

    def _listen(self, ears: Listen, histogram: TimbralHistogram | None, samples: Tensor) -> Tensor:
        """(n, window_samples) → (n, n_features)."""
        vocals = self._separator(samples) if self._separator else samples
        n, size, rate_hz = len(samples), samples.shape[1], self._ears.config.sample_rate_hz
        heard = torch.zeros(n, self._config.most_segments, self._n_state + 1, device=samples.device)
        found = enumerate(voiced(vocals, rate_hz, self._config))
        if segments := [(row, place, part) for row, own in found for place, part in enumerate(own)]:
            rows, places, parts = zip(*segments, strict=True)
            cut = [pad(vocals[row, part], (0, size - (part.stop - part.start))) for row, _, part in segments]
            lengths = [(part.stop - part.start) / rate_hz for part in parts]
            heard[rows, places, : self._n_state] = ears(torch.stack(cut))[:, : self._n_state]
            heard[rows, places, self._n_state] = torch.tensor(lengths, device=samples.device)
        sound = histogram(samples) if histogram else torch.zeros(n, 1, device=samples.device)  # no codeword, no frame
        return torch.cat([heard.flatten(1), sound], dim=1)


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
