"""A `multimodal` release in the paper's measures: mAP, and precision, recall and F1 at the languages' thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.families.contract import Model, mode_name
from app.families.multimodal.manifest import MultimodalManifest
from app.families.store import load_model
from app.lab.evaluation.acceptance import MEASURES, Acceptance, acceptance, acceptance_table
from app.lab.evaluation.answers import EvaluationSet, answer, read_inputs
from app.lab.evaluation.evaluate import Options, describe, write_report
from app.lab.progress import Progress
from app.lab.training.recipe import Figures

NOTE = (
    "mAP: area under the precision-recall curve of each language. P, R and F1 where a language is accepted from its own "
    "threshold in that case on, which gave the best F1 on split `valid`. Cases: everything, and each input alone."
)


def measured(model: Model, chosen: EvaluationSet, options: Options, progress: Progress) -> tuple[dict[str, Acceptance], str]:
    """By case, and as Markdown; rows in which nothing is sung are left out. Raises CorpusError."""
    manifest = model.manifest
    assert isinstance(manifest, MultimodalManifest)
    codes = [label.code for label in manifest.labels]
    rows = [row for row in chosen.rows(codes) if row.label < len(codes)]
    given = answer(model, read_inputs(model, rows, options.extractor(model), progress))
    found = {}
    for mode, by_class in manifest.thresholds.items():
        case = mode_name(frozenset(mode.split("+")))
        if case in given:
            least = np.array([by_class.get(code, 0.5) for code in codes])
            found[case] = acceptance(given[case].labels, given[case].probabilities, least)
    return found, f"{describe(chosen, rows)}\n\n{acceptance_table(found, codes)}"


def measure(model: Model, sets: Sequence[EvaluationSet], progress: Progress) -> Figures:
    """Of the sets' rows, for manifest and card."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    parts = [NOTE]
    for chosen in sets:
        found, page = measured(model, chosen, Options(), progress)
        for case, one in found.items():
            means = dict(zip(MEASURES, (round(mean, 4) for mean in one.means()), strict=True))
            metrics.setdefault(case, {})[chosen.name] = means
        parts.append(f"### {chosen.name}\n{chosen.note}\n\n{page}".rstrip())
    return Figures(metrics, "\n\n".join(parts))


def evaluate(folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
    """Writes evaluation.json and evaluation.md. Raises ReleaseError, CorpusError."""
    model = load_model(folder)
    found, page = measured(model, chosen, options, progress)
    cases = {case: dict(zip(MEASURES, one.means(), strict=True)) for case, one in found.items()}
    labels = [label.code for label in model.manifest.labels]
    write_report(output, {"labels": labels, "cases": cases}, f"# {'/'.join(folder.parts[-2:])}\n\n{page}\n{NOTE}\n")
    return page
