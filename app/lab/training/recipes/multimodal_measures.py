"""A `multimodal` release in the paper's measures: mAP, and precision, recall and F1 at the languages' thresholds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.families.contract import Model, mode_name
from app.families.multimodal.manifest import MultimodalManifest
from app.families.store import load_model
from app.lab.errors import CorpusError
from app.lab.evaluation.acceptance import MEASURES, Acceptance, acceptance, acceptance_table
from app.lab.evaluation.answers import EvaluationSet, answer, read_inputs
from app.lab.evaluation.evaluate import Options, describe
from app.lab.features import FeatureExtractor, cache_folder, served_windows
from app.lab.progress import Progress
from app.lab.training.recipe import Figures

NOTE = (
    "mAP: area under the precision-recall curve of each language. P, R and F1 where a language is accepted from its own "
    "threshold in that case on, which gave the best F1 on split `valid`. Cases: everything, and each input alone."
)


def measured(
    model: Model, chosen: EvaluationSet, progress: Progress, options: Options | None = None
) -> tuple[dict[str, Acceptance], str]:
    """By case, and the rows in words; rows in which nothing is sung are left out. Raises CorpusError."""
    options = options or Options()
    manifest = model.manifest
    assert isinstance(manifest, MultimodalManifest)
    codes = [label.code for label in manifest.labels]
    rows = [row for row in chosen.rows(codes) if row.label < len(codes)]
    extractor = None
    if model.audio is not None:
        cache = options.cache and cache_folder(options.cache, served_windows(model.audio), manifest.sha256)
        extractor = FeatureExtractor(model.audio, options.target, cache=cache)
    least = {mode_name(frozenset(mode.split("+"))): by_class for mode, by_class in manifest.thresholds.items()}
    thresholds = {case: np.array([by_class.get(code, 0.5) for code in codes]) for case, by_class in least.items()}
    given = answer(model, read_inputs(model, rows, extractor, progress))
    found = {case: acceptance(one.labels, one.probabilities, thresholds[case]) for case, one in given.items()}
    return found, describe(chosen, rows)


def measure(model: Model, sets: Sequence[EvaluationSet], progress: Progress) -> Figures:
    """Of the sets' rows, for manifest and card."""
    codes = [label.code for label in model.manifest.labels]
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    parts = [NOTE]
    for chosen in sets:
        found, said = measured(model, chosen, progress)
        for case, one in found.items():
            means = dict(zip(MEASURES, (round(mean, 4) for mean in one.means()), strict=True))
            metrics.setdefault(case, {})[chosen.name] = means
        parts.append(f"### {chosen.name}\n{chosen.note}\n\n{said}\n\n{acceptance_table(found, codes)}".rstrip())
    return Figures(metrics, "\n\n".join(parts))


def evaluate(folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
    """Writes evaluation.json and evaluation.md. Raises ReleaseError, CorpusError."""
    model = load_model(folder)
    codes = [label.code for label in model.manifest.labels]
    found, said = measured(model, chosen, progress, options)
    page = f"{said}\n\n{NOTE}\n\n{acceptance_table(found, codes)}"
    cases = {case: dict(zip(MEASURES, one.means(), strict=True)) for case, one in found.items()}
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "evaluation.json").write_text(json.dumps({"data": said, "labels": codes, "cases": cases}, indent=1))
        (output / "evaluation.md").write_text(f"# {'/'.join(folder.parts[-2:])}\n\n{page}", encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"{output} cannot be written ({error}); free some disk or choose another --output") from error
    return page
