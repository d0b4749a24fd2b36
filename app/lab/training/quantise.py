"""What a release needs to be run in 8 bits: ranges measured on training windows, and the proof on validation windows.

The block is written into the manifest when, and only when, the answers agree with those of fp32. Weights, golden answers and
everything else of the release stay as they are.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from app.audio.decode import load_recording
from app.audio.spec import WindowRequest, WindowSpec
from app.domain import FloatArray
from app.errors import AudioError, ReleaseError
from app.families.contract import LEAST_TOP1, MOST_MEAN_ABS_DP, Agreement, Int8, Model
from app.families.golden import Listen
from app.families.lrid_net.listen import Listener
from app.families.lrid_net.quantised import Ranges, measured_ranges
from app.families.store import MANIFEST, load_model
from app.families.store import read_manifest as read_release
from app.lab.corpus.manifest import Row, read_manifest
from app.lab.evaluation.evaluate import LIMITS
from app.lab.training.errors import CorpusError

Progress = Callable[[int], None]
Engines = Callable[[nn.Module, Literal["fp32", "int8"]], Listen]  # a listener → how it is run in a precision
FIRST = "conv1"  # sees decibels of one channel: a hundredth of the work, and its rounding would be in all that follows


@dataclass(frozen=True, kw_only=True)
class QuantiseConfig:
    """Where windows come from, and how many; one of each recording."""

    folder: Path  # of the release
    manifest: Path
    calibration_windows: int = 64  # of split=train
    compared_windows: int = 200  # of split=valid


@dataclass(frozen=True, slots=True)
class Difference:
    """8 bits beside fp32."""

    windows: int
    top1: float  # share with the same best class
    mean_abs_dp: float
    largest_abs_dp: float

    @property
    def small_enough(self) -> bool:
        return self.top1 >= LEAST_TOP1 and self.mean_abs_dp <= MOST_MEAN_ABS_DP

    def __str__(self) -> str:
        return (
            f"top-1 {self.top1:.2%}, mean |dp| {self.mean_abs_dp:.5f}, largest {self.largest_abs_dp:.4f}, "
            f"{self.windows} windows"
        )


def quantise(
    config: QuantiseConfig, engines: Engines, progress: Progress = lambda n: None
) -> dict[Literal["audio_only", "both"], Difference]:
    """Calibrate, compare, and write the block `int8` into the release's manifest.

    Raises CorpusError for rows, and ReleaseError when the answers differ too much: nothing is written then.
    """
    model = load_model(config.folder)
    listener = model.listener
    assert isinstance(listener, Listener)
    train = _rows(config.manifest, model, "train", config.calibration_windows)
    valid = _rows(config.manifest, model, "valid", config.compared_windows)
    ranges = _calibrate(listener, [_window(row, model, progress) for row in train], progress)
    listener.int8_ranges = ranges
    exact, rounded = engines(listener, "fp32"), engines(listener, "int8")
    features = []
    for row in valid:
        window = _window(row, model, progress)
        features.append((exact([window]), rounded([window])))
        progress(1)
    found = compare(model, valid, features)
    if not all(difference.small_enough for difference in found.values()):
        said = "; ".join(f"{mode}: {difference}" for mode, difference in found.items())
        raise ReleaseError(
            f"int8 differs too much from fp32, nothing was written: {said}. Asked: top-1 >= {LEAST_TOP1:.0%}, "
            f"mean |dp| <= {MOST_MEAN_ABS_DP:g}"
        )
    block = Int8(
        ranges=ranges,
        calibration=f"{len(train)} windows, split=train of {config.manifest.name}",
        compared_on=f"{len(valid)} windows, split=valid of {config.manifest.name}",
        agreement={
            mode: Agreement(windows=one.windows, top1=round(one.top1, 4), mean_abs_dp=round(one.mean_abs_dp, 6))
            for mode, one in found.items()
        },
    )
    write_block(config.folder, block)
    return found


def compare(
    model: Model, rows: Sequence[Row], features: Sequence[tuple[FloatArray, FloatArray]]
) -> dict[Literal["audio_only", "both"], Difference]:
    """Of each row the features in fp32 and in 8 bits, each (1, n_audio_features) → how far answers are apart."""
    pairs: dict[Literal["audio_only", "both"], list[tuple[FloatArray, FloatArray]]] = {"audio_only": [], "both": []}
    for row, (exact, rounded) in zip(rows, features, strict=True):
        pairs["audio_only"].append((model.identify(exact, None).mean, model.identify(rounded, None).mean))
        if row.metadata.fields:
            reading = model.read(row.metadata)
            pairs["both"].append((model.identify(exact, reading).mean, model.identify(rounded, reading).mean))
    return {
        mode: difference(np.stack([exact for exact, _ in of_mode]), np.stack([rounded for _, rounded in of_mode]))
        for mode, of_mode in pairs.items()
        if of_mode
    }


def difference(exact: FloatArray, rounded: FloatArray) -> Difference:
    """Probabilities (n, n_classes), twice."""
    apart = np.abs(exact - rounded)
    same = exact.argmax(axis=1) == rounded.argmax(axis=1)
    return Difference(len(exact), float(same.mean()), float(apart.mean()), float(apart.max()))


def write_block(folder: Path, block: Int8) -> None:
    """Into manifest.json, in one step; what stands there otherwise is kept. Raises ReleaseError."""
    fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    fields["int8"] = block.model_dump(mode="json")
    handle, name = tempfile.mkstemp(prefix=".manifest-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(fields, indent=1, ensure_ascii=False) + "\n")
        Path(name).chmod((folder / MANIFEST).stat().st_mode)
        os.replace(name, folder / MANIFEST)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    read_release(folder)


def _rows(manifest: Path, model: Model, split: str, wanted: int) -> list[Row]:
    """Evenly picked ones that have audio."""
    codes = [label.code for label in model.manifest.labels]
    rows = [row for row in read_manifest(manifest, codes) if row.split == split and row.path is not None]
    if not rows:
        raise CorpusError(f"{manifest}: no rows of split {split} with audio; calibration needs train, comparison valid")
    return [rows[i * len(rows) // wanted] for i in range(wanted)] if wanted < len(rows) else rows


def _window(row: Row, model: Model, progress: Progress) -> FloatArray:
    """The recording's only window, or its middle one, (window_samples,)."""
    assert row.path is not None
    request = WindowRequest(WindowSpec(model.sample_rate_hz, model.window_samples), max_windows=1)
    try:
        recording = load_recording(row.path, request, LIMITS)
    except (OSError, AudioError) as error:
        raise CorpusError(f"line {row.line}: {row.path}: {error}; repair or drop the row") from error
    if not recording.windows:
        raise CorpusError(f"line {row.line}: {row.path} is silent; drop the row")
    progress(1)
    return recording.windows[0].samples


@torch.inference_mode()
def _calibrate(listener: Listener, windows: Sequence[FloatArray], progress: Progress) -> Ranges:
    """Of everything but the first convolution."""
    with measured_ranges(listener.trunk) as ranges:
        for window in windows:
            listener(torch.from_numpy(window)[None])
            progress(1)
    return {name: (round(low, 4), round(high, 4)) for name, (low, high) in ranges.items() if name != FIRST}
