"""Writes CARD.md: what a release knows, what it does not, and the figures, as they were measured."""

from collections.abc import Mapping

from app.families.contract import Manifest
from app.lab import markdown as md
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.calibrate import WANTED_PRECISION, Calibration
from app.lab.evaluation.report import Evaluation, markdown, title
from app.lab.training.recipe import Draft


def write(manifest: Manifest, draft: Draft, calibrations: Mapping[str, Calibration], limits: str, figures: str) -> str:
    """Returns Markdown. `calibrations`: by mode; empty where the recipe calibrates. `figures`: what was measured."""
    training = manifest.training
    labels = ", ".join(f"{label.code} ({label.name})" for label in manifest.labels)
    parts = [
        f"# {manifest.family}/{manifest.release}",
        f"{draft.about}; {len(manifest.labels)} classes: {labels}.",
        "## What it was trained on",
        training["data"],
        _rows_and_prior(training.get("rows"), training.get("class_prior")),
        "## What it does not know",
        limits or "Nothing was stated.",
        *(f"## {head}\n\n{text}" for head, text in draft.notes.items()),
        _calibration_section(calibrations),
        "## Figures",
        figures,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def figures_page(evaluation: Evaluation, chosen: EvaluationSet | None) -> str:
    """Writes the figures of a single label on the rows that were chosen, if any were."""
    note = (
        "P / R / F1, macro over the classes that occur and weighted by support. *ECE* over 15 bins. *Precision* (of what is "
        "answered) and *coverage* are those of its own decisions; the rest is answered `und`."
    )
    return f"{note}\n\n### {chosen.name}\n{chosen.note}\n\n{markdown(evaluation)}".rstrip() if chosen else note


def _rows_and_prior(rows: Mapping[str, int] | None, prior: Mapping[str, float] | None) -> str:
    told = []
    if rows:
        told.append(", ".join(f"{n:,} rows with {'audio' if kind == 'audio' else kind}" for kind, n in rows.items()) + ".")
    if prior:
        shares = ", ".join(f"{code} {share:.1%}" for code, share in prior.items())
        told.append(f"Class mix of a training batch (the prior in its answers): {shares}.")
    return " ".join(told)


def _calibration_section(calibrations: Mapping[str, Calibration]) -> str:
    if not calibrations:
        return ""
    reached = {mode: (c.precision, c.coverage) if c.coverage else ("not reached", 0) for mode, c in calibrations.items()}
    rows = [(title(mode), f"{c.temperature:g}", f"{c.threshold:g}", *reached[mode]) for mode, c in calibrations.items()]
    heads = ["case", "temperature", "threshold", "precision (validation)", "coverage (validation)"]
    return (
        "## When it answers\n\n"
        "Temperatures and thresholds were fitted on validation rows, each case by itself: the least threshold with "
        f"{WANTED_PRECISION:.0%} right answers among those given. Below it the answer is `und`.\n\n{md.table(heads, rows)}"
    )
