"""Measure a release on a manifest, in the paper's three cases: both modalities, audio missing, text missing (§4.4).

Audio goes the way of a request: the same decoding, windows, front end, f and mean over the windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowSpec
from app.corpus.errors import CorpusError
from app.corpus.manifest import Row, read_manifest
from app.domain import FloatArray, Reading, Recording
from app.errors import AudioError
from app.evaluation import metrics
from app.families.contract import Mode, Model
from app.families.store import load_model

LIMITS = DecodeLimits(max_audio_seconds=3600.0, silence_dbfs=-60.0)
MAX_WINDOWS = 8  # of one track, as serving's default
WINDOWS_AT_ONCE = 8
MODES: tuple[Mode, ...] = ("both", "audio_only", "text_only")
TITLES: dict[Mode, str] = {"both": "both", "audio_only": "audio only", "text_only": "text only"}

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Rows to measure a release on."""

    name: str
    note: str  # what the rows are, for people: real or synthetic, which split
    manifest: Path
    splits: Collection[str] = ("test",)
    exclude_strength: Collection[str] = ()
    max_rows: int = 0  # 0 = all; else evenly picked ones
    max_windows: int = MAX_WINDOWS  # of one track

    def rows(self, codes: Sequence[str]) -> list[Row]:
        """Raises CorpusError if there are none."""
        rows = read_manifest(self.manifest, codes, exclude_strength=self.exclude_strength)
        rows = [row for row in rows if row.split in self.splits]
        if not rows:
            raise CorpusError(f"set {self.name!r}: {self.manifest} has no rows of split {', '.join(self.splits)}")
        if not 0 < self.max_rows < len(rows):
            return rows
        return [rows[i * len(rows) // self.max_rows] for i in range(self.max_rows)]


@dataclass(frozen=True, slots=True)
class Heard:
    """A row as the network sees it."""

    label: int
    features: FloatArray | None  # (n_windows, n_audio_features); None without audio, or if it is silent
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a release says about rows that have what a case needs."""

    labels: npt.NDArray[np.int64]  # (n,)
    probabilities: FloatArray  # (n, n_classes)


@dataclass(frozen=True, slots=True)
class CaseReport:
    """The figures of one case on one set of rows."""

    rows: int
    accuracy: float
    balanced_accuracy: float
    macro: metrics.Average
    weighted: metrics.Average
    ece: float
    nll: float  # nats
    answered: metrics.OperatingPoint  # at the release's threshold
    f1: dict[str, float]  # by code, of classes that occur
    support: dict[str, int]
    confusion: list[list[int]]  # truth in rows

    def summary(self) -> dict[str, Any]:
        """The part that goes into a manifest."""
        return {
            "rows": self.rows,
            "accuracy": round(self.accuracy, 4),
            "balanced_accuracy": round(self.balanced_accuracy, 4),
            "macro_f1": round(self.macro.f1, 4),
            "weighted_f1": round(self.weighted.f1, 4),
            "ece": round(self.ece, 4),
            "precision_answered": round(self.answered.precision, 4),
            "coverage": round(self.answered.coverage, 4),
        }

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Evaluation = dict[Mode, CaseReport]


class Hearer:
    """Files → features, with a release's listener. bf16 is what a CPU that multiplies it serves with."""

    def __init__(self, model: Model, *, bf16: bool, max_windows: int = MAX_WINDOWS) -> None:
        self._listener = model.listener.eval()
        self._spec = WindowSpec(model.sample_rate_hz, model.window_samples, max_windows)
        self._bf16 = bf16

    def windows(self, windows: Sequence[FloatArray]) -> FloatArray:
        """n windows, each (window_samples,) → (n, n_audio_features)."""
        parts = []
        for i in range(0, len(windows), WINDOWS_AT_ONCE):
            samples = torch.from_numpy(np.stack(windows[i : i + WINDOWS_AT_ONCE]))
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
                parts.append(self._listener(samples).numpy())
        return np.concatenate(parts)

    def row(self, row: Row) -> FloatArray | None:
        """(n_windows, n_audio_features) of a row's audio; None if it is silent. Raises CorpusError."""
        assert row.path is not None
        recording = self._load(row)
        return self.windows([window.samples for window in recording.windows]) if recording.windows else None

    def _load(self, row: Row) -> Recording:
        assert row.path is not None
        try:
            return load_recording(row.path, self._spec, LIMITS)
        except (OSError, AudioError) as error:
            raise CorpusError(f"line {row.line}: {row.path}: {error}; repair or drop the row") from error


def hear(model: Model, rows: Sequence[Row], hearer: Hearer, progress: Progress = lambda n: None) -> list[Heard]:
    """Every row listened to and read. Raises CorpusError for audio that cannot be read."""
    heard = []
    for row in rows:
        features = hearer.row(row) if row.path is not None else None
        heard.append(Heard(row.label, features, model.read(row.metadata) if row.metadata.fields else None))
        progress(1)
    return heard


def answer(model: Model, heard: Sequence[Heard]) -> dict[Mode, Answers]:
    """Every row in every case it has the modalities for."""
    found: dict[Mode, list[tuple[int, FloatArray]]] = {mode: [] for mode in MODES}
    for row in heard:
        if row.features is not None and row.reading is not None:
            found["both"].append((row.label, model.identify(row.features, row.reading).mean))
        if row.features is not None:
            found["audio_only"].append((row.label, model.identify(row.features, None).mean))
        if row.reading is not None:
            found["text_only"].append((row.label, model.identify(None, row.reading).mean))
    return {
        mode: Answers(np.array([label for label, _ in given], np.int64), np.stack([p for _, p in given]))
        for mode, given in found.items()
        if given
    }


def report(model: Model, answers: dict[Mode, Answers]) -> Evaluation:
    """The figures of each case."""
    codes = [label.code for label in model.manifest.labels]
    return {mode: _case(given, codes, getattr(model.manifest.thresholds, mode)) for mode, given in answers.items()}


def _case(given: Answers, codes: list[str], threshold: float) -> CaseReport:
    matrix = metrics.confusion(given.labels, given.probabilities.argmax(axis=1), len(codes))
    scores = metrics.per_class(matrix)
    occurring = [i for i in range(len(codes)) if scores.support[i]]
    return CaseReport(
        rows=len(given.labels),
        accuracy=metrics.accuracy(matrix),
        balanced_accuracy=metrics.balanced_accuracy(matrix),
        macro=metrics.macro(matrix),
        weighted=metrics.weighted(matrix),
        ece=metrics.expected_calibration_error(given.labels, given.probabilities),
        nll=metrics.negative_log_likelihood(given.labels, given.probabilities),
        answered=metrics.at_threshold(given.labels, given.probabilities, threshold),
        f1={codes[i]: float(scores.f1[i]) for i in occurring},
        support={codes[i]: int(scores.support[i]) for i in occurring},
        confusion=matrix.tolist(),
    )


def evaluate(
    folder: Path, chosen: EvaluationSet, output: Path, *, bf16: bool = False, progress: Progress = lambda n: None
) -> Evaluation:
    """Measures the release in `folder`; writes evaluation.json and evaluation.md. Raises ReleaseError, CorpusError."""
    model = load_model(folder)
    rows = chosen.rows([label.code for label in model.manifest.labels])
    hearer = Hearer(model, bf16=bf16, max_windows=chosen.max_windows)
    evaluation = report(model, answer(model, hear(model, rows, hearer, progress)))
    manifest = model.manifest
    said = {
        "release": f"{manifest.family}/{manifest.release}",
        "sha256": manifest.sha256,
        "manifest": str(chosen.manifest),
        "splits": list(chosen.splits),
        "exclude_strength": list(chosen.exclude_strength),
        "labels": [label.code for label in manifest.labels],
        "cases": {mode: case.as_dict() for mode, case in evaluation.items()},
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "evaluation.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    heading = f"# {said['release']} on {chosen.name}, split {', '.join(chosen.splits)}\n\n{chosen.note}\n\n"
    (output / "evaluation.md").write_text(heading + markdown(evaluation), encoding="utf-8")
    return evaluation


def markdown(evaluation: Evaluation) -> str:
    """Two tables: the averages of each case, and F1 by class, most frequent first."""
    lines = [
        "| case | rows | macro P / R / F1 | weighted P / R / F1 | accuracy | balanced | ECE | precision | coverage |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for mode, case in evaluation.items():
        averages = (f"{a.precision:.3f} / {a.recall:.3f} / {a.f1:.3f}" for a in (case.macro, case.weighted))
        lines.append(
            f"| {TITLES[mode]} | {case.rows} | {' | '.join(averages)} | {case.accuracy:.3f} | "
            f"{case.balanced_accuracy:.3f} | {case.ece:.3f} | {case.answered.precision:.3f} | {case.answered.coverage:.3f} |"
        )
    support: dict[str, int] = {}
    for case in evaluation.values():
        support = {code: max(n, support.get(code, 0)) for code, n in (support | case.support).items()}
    codes = sorted(support, key=lambda code: -support[code])
    lines += ["", "| F1 | " + " | ".join(codes) + " |", "|---" * (len(codes) + 1) + "|"]
    for mode, case in evaluation.items():
        cells = " | ".join(f"{case.f1[code]:.2f} ({case.support[code]})" if code in case.f1 else "" for code in codes)
        lines.append(f"| {TITLES[mode]} | {cells} |")
    return "\n".join(lines) + "\n"
