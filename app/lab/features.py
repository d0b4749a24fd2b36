"""Turns files into features by a release's listener: to evaluate, to calibrate, and to train on a finished listener."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from app.audio.decode import load_recording
from app.audio.spec import WindowRequest
from app.domain import FloatArray
from app.families.contract import AudioBranch, Target
from app.lab.caches import LIMITS, MAX_WINDOWS, ArrayCache, made
from app.lab.corpus.catalogue import Row
from app.lab.progress import Progress

WINDOWS_AT_ONCE = 8


class FeatureExtractor:
    """Listens to windows in batches, and keeps what it made of each file."""

    def __init__(
        self,
        branch: AudioBranch,
        target: Target | None = None,
        request: WindowRequest | None = None,
        cache: Path | None = None,
        identity: str = "",
    ) -> None:
        """`request`: the windows of a file, by default those of a request to the server. `cache`: a folder for features;
        None: nothing is kept. `identity`: tells the listener from others that share it, such as the hash of its weights.
        """
        self._target = target or Target("cpu", "fp32", threads=torch.get_num_threads())
        self._listen = branch.listener.prepare(self._target)
        self._n_features = branch.listener.n_features
        self._request = request or WindowRequest(branch.window, branch.most_windows or MAX_WINDOWS)
        self._cache = None if cache is None else ArrayCache(cache_folder(cache, self._request, identity))

    def windows(self, windows: Sequence[FloatArray]) -> FloatArray:
        """Turns n windows, each (window_samples,), into (n, n_features)."""
        parts = [np.zeros((0, self._n_features), np.float32)]
        for i in range(0, len(windows), WINDOWS_AT_ONCE):
            samples = torch.from_numpy(np.stack(windows[i : i + WINDOWS_AT_ONCE])).to(self._target.device)
            with torch.inference_mode():
                parts.append(self._listen(samples).float().cpu().numpy())
        return np.concatenate(parts)

    def file(self, path: Path) -> FloatArray:
        """Returns (n_windows, n_features) in plan order; no rows if it is silent. Raises AudioError, OSError."""
        return self.windows([window.samples for window in load_recording(path, self._request, LIMITS).windows])

    def rows(self, rows: Sequence[Row], progress: Progress) -> list[FloatArray]:
        """Returns (n_windows, n_features) of each row's audio. Raises CorpusError naming the row that cannot be decoded."""
        counted = progress.each("listening", rows)
        if self._cache is None:
            return [made(row, self.file) for row in counted]
        self._cache.add(counted, self.file)
        return [self._cache.read(row) for row in rows]


def cache_folder(folder: Path, request: WindowRequest, listener: str) -> Path:
    """Names the folder of features; other windows, or another listener (such as the hash of its weights), have another."""
    return folder / f"features-{hashlib.sha256(f'{listener} {request}'.encode()).hexdigest()[:12]}"
