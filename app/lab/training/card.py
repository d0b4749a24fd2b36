"""CARD.md: what a release knows, what it does not, and the figures, as they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.families.contract import Manifest
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.calibrate import WANTED_PRECISION, Calibration
from app.lab.evaluation.report import Evaluation, markdown, title


@dataclass(frozen=True, slots=True)
class CardData:
    """All that a card says."""

    manifest: Manifest
    about: str  # what kind of network
    notes: Mapping[str, str]  # further sections: title → Markdown
    calibrations: Mapping[str, Calibration]  # by mode; empty where the recipe calibrates
    limits: str  # what the release does not know


def write(data: CardData, figures: str) -> str:
    """The card as Markdown; `figures`: what was measured."""
    manifest, training = data.manifest, data.manifest.training
    labels = ", ".join(f"{label.code} ({label.name})" for label in manifest.labels)
    parts = [
        f"# {manifest.family}/{manifest.release}",
        f"{data.about}; {len(manifest.labels)} classes: {labels}.",
        "## What it was trained on",
        training["data"],
        _rows_and_prior(training.get("rows"), training.get("class_prior")),
        "## What it does not know",
        data.limits or "Nothing was stated.",
        *(f"## {head}\n\n{text}" for head, text in data.notes.items()),
        _calibration_section(data.calibrations),
        "## Figures",
        figures,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def figures_page(evaluations: Mapping[str, Evaluation], sets: Sequence[EvaluationSet]) -> str:
    """The figures of a single label, set by set."""
    note = (
        "P / R / F1, macro over the classes that occur and weighted by support. *ECE* over 15 bins. *Precision* (of what is "
        "answered) and *coverage* are those of its own decisions; the rest is answered `und`."
    )
    parts = [f"### {chosen.name}\n{chosen.note}\n\n{markdown(evaluations[chosen.name])}".rstrip() for chosen in sets]
    return "\n\n".join([note, *parts])


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
    lines = [
        "## When it answers\n",
        "Temperatures and thresholds were fitted on validation rows, each case by itself: the least threshold with "
        f"{WANTED_PRECISION:.0%} right answers among those given. Below it the answer is `und`.\n",
        "| case | temperature | threshold | precision (validation) | coverage (validation) |",
        "|---|---|---|---|---|",
    ]
    for mode, c in calibrations.items():
        reached = f"{c.precision:.3f} | {c.coverage:.3f}" if c.coverage else "not reached | 0"
        lines.append(f"| {title(mode)} | {c.temperature:g} | {c.threshold:g} | {reached} |")
    return "\n".join(lines)
