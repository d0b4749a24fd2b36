"""Measure a release on a manifest, in the paper's three cases: both modalities, audio missing, text missing (§4.4).

Audio goes the way of a request: the same decoding, windows, front end, f and mean over the windows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import FloatArray, Reading, Recording, Track
from app.errors import AudioError
from app.families.contract import Manifest, Model
from app.families.lrid_net.config import ModeName as Mode
from app.families.lrid_net.config import Thresholds
from app.families.prior import under_prior
from app.families.store import load_model
from app.lab.corpus.errors import CorpusError
from app.lab.corpus.manifest import Row, read_manifest
from app.lab.evaluation import figures
from app.lab.evaluation.baselines import baselines
from app.lab.evaluation.report import MODES, TITLES, CaseReport, Evaluation, Measured, as_page, case_report, markdown

LIMITS = DecodeLimits(max_audio_seconds=3600.0, silence_dbfs=-60.0)
MAX_WINDOWS = 8  # of one track, as serving's default
WINDOWS_AT_ONCE = 8
MADE = {"synthetic": "synthetic", "human": "human voices sung by a vocoder"}  # domains of `lrid synthesize`

__all__ = ["MODES", "TITLES", "CaseReport", "Evaluation", "EvaluationSet", "Heard", "Hearer", "answer", "evaluate", "hear",
           "markdown", "measure", "report"]  # fmt: skip

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
    catalog_prior: str = "training"  # class mix that answers are corrected to, as LRID_CATALOG_PRIOR has it

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


class Hearer:
    """Files → features, with a release's listener. bf16 is what a CPU that multiplies it serves with."""

    def __init__(self, model: Model, *, bf16: bool, max_windows: int = MAX_WINDOWS) -> None:
        assert model.audio is not None
        self._listener = model.audio.listener
        self._request = WindowRequest(model.audio.window, max_windows)
        self._bf16 = bf16

    def windows(self, windows: Sequence[FloatArray]) -> FloatArray:
        """n windows, each (window_samples,) → (n, n_audio_features)."""
        parts = []
        for i in range(0, len(windows), WINDOWS_AT_ONCE):
            samples = torch.from_numpy(np.stack(windows[i : i + WINDOWS_AT_ONCE]))
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
                parts.append(self._listener(samples).numpy())  # type: ignore[operator]
        return np.concatenate(parts)

    def row(self, row: Row) -> FloatArray | None:
        """(n_windows, n_audio_features) of a row's audio; None if it is silent. Raises CorpusError."""
        assert row.path is not None
        recording = self._load(row)
        return self.windows([window.samples for window in recording.windows]) if recording.windows else None

    def _load(self, row: Row) -> Recording:
        assert row.path is not None
        try:
            return load_recording(row.path, self._request, LIMITS)
        except (OSError, AudioError) as error:
            raise CorpusError(f"line {row.line}: {row.path}: {error}; repair or drop the row") from error


def hear(model: Model, rows: Sequence[Row], hearer: Hearer, progress: Progress = lambda n: None) -> list[Heard]:
    """Every row listened to and read. Raises CorpusError for audio that cannot be read."""
    heard = []
    for row in rows:
        features = hearer.row(row) if row.path is not None else None
        heard.append(Heard(row.label, features, model.inputs["text"].read(Track(None, row.metadata))))
        progress(1)
    return heard


def answer(model: Model, heard: Sequence[Heard]) -> dict[Mode, Answers]:
    """Every row in every case it has the modalities for."""
    found: dict[Mode, list[tuple[int, FloatArray]]] = {mode: [] for mode in MODES}
    for row in heard:
        if row.features is not None and row.reading is not None:
            found["both"].append((row.label, _answer(model, row.features, row.reading)))
        if row.features is not None:
            found["audio_only"].append((row.label, _answer(model, row.features, None)))
        if row.reading is not None:
            found["text_only"].append((row.label, _answer(model, None, row.reading)))
    return {
        mode: Answers(np.array([label for label, _ in given], np.int64), np.stack([p for _, p in given]))
        for mode, given in found.items()
        if given
    }


def _answer(model: Model, features: FloatArray | None, reading: Reading | None) -> FloatArray:
    given = {} if features is None else {"audio": features}
    given |= {} if reading is None else {"text": reading.vector}
    mode = frozenset(given if reading is None or reading.informative else given.keys() - {"text"})
    return model.combine(given, mode).probabilities


def report(model: Model, answers: dict[Mode, Answers]) -> Evaluation:
    """The figures of each case."""
    codes = [label.code for label in model.manifest.labels]
    least = getattr(model.manifest, "thresholds", Thresholds())
    return {
        mode: case_report(given.labels, given.probabilities, codes, getattr(least, mode), _by_language(least, mode))
        for mode, given in answers.items()
    }


def _by_language(thresholds: Thresholds, mode: Mode) -> dict[str, float]:
    return {} if mode == "audio_only" else thresholds.by_language


def evaluate(
    folder: Path, chosen: EvaluationSet, output: Path, *, bf16: bool = False, progress: Progress = lambda n: None
) -> Evaluation:
    """Measures the release in `folder`; writes evaluation.json, evaluation.md and PNGs (where matplotlib is installed).

    Raises ReleaseError, CorpusError.
    """
    measured = measure(folder, chosen, bf16=bf16, progress=progress)
    said = {
        "release": measured.release,
        "manifest": str(chosen.manifest),
        "splits": list(chosen.splits),
        "exclude_strength": list(chosen.exclude_strength),
        "data": measured.data,
        "catalog_prior": chosen.catalog_prior,
        "labels": measured.codes,
        "cases": {mode: case.as_dict() for mode, case in measured.cases.items()},
        "langdetect": {field: case.as_dict() for field, case in measured.baselines.items()},
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "evaluation.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
        (output / "evaluation.md").write_text(as_page(measured, chosen.note), encoding="utf-8")
        figures.draw(measured, output)
    except OSError as error:
        raise CorpusError(f"{output} cannot be written ({error}); free some disk or choose another --output") from error
    return measured.cases


def measure(folder: Path, chosen: EvaluationSet, *, bf16: bool = False, progress: Progress = lambda n: None) -> Measured:
    """The release in `folder`, and langdetect alone, on the chosen rows. Raises ReleaseError, CorpusError."""
    model = under_prior(load_model(folder), chosen.catalog_prior)
    codes = [label.code for label in model.manifest.labels]
    rows = chosen.rows(codes)
    hearer = Hearer(model, bf16=bf16, max_windows=chosen.max_windows)
    answers = answer(model, hear(model, rows, hearer, progress))
    return Measured(
        name=chosen.name,
        data=describe(chosen, rows),
        release=describe_release(model.manifest, chosen.catalog_prior),
        codes=codes,
        cases=report(model, answers),
        baselines=baselines(rows, codes),
    )


def describe(chosen: EvaluationSet, rows: Sequence[Row]) -> str:
    """Data, split, and what of it is synthetic, in a sentence."""
    heard = [row for row in rows if row.path is not None]
    made = Counter(row.domain for row in heard if row.domain in MADE)
    origin = ", ".join(f"{n:,} {MADE[domain]}" for domain, n in made.items()) or "none of it marked as synthetic"
    audio = f"{len(heard):,} with audio ({origin})" if heard else "none with audio"
    left_out = f", without strength {', '.join(chosen.exclude_strength)}" if chosen.exclude_strength else ""
    return (
        f"{chosen.manifest.name}, split {', '.join(chosen.splits)}{left_out}: {len(rows):,} rows, {audio}, "
        f"{sum(bool(row.metadata.fields) for row in rows):,} with metadata as the manifest has them."
    )


def describe_release(manifest: Manifest, catalog_prior: str = "training") -> str:
    """Which weights, the seeds that made them, and the class mix of the answers if it is not their own."""
    seed = manifest.training.get("settings", {}).get("seed", "not stated")
    variant = manifest.training.get("variant")
    of = f"variant {variant}, " if variant else ""
    under = "" if catalog_prior == "training" else f", under the class mix {catalog_prior}"
    return f"{manifest.family}/{manifest.release} ({of}training seed {seed}, sha256 {manifest.sha256[:12]}{under})"
