"""CARD.md: what a release knows, what it does not, and the figures, as they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.families.lrid_net.config import LridNetManifest
from app.families.lrid_net.config import ModeName as Mode
from app.lab.evaluation.calibrate import WANTED_PRECISION, Calibration
from app.lab.evaluation.evaluate import TITLES, Evaluation, markdown


class Described(Protocol):
    """A set of rows with words for people."""

    @property
    def name(self) -> str: ...

    @property
    def note(self) -> str: ...


def write(
    manifest: LridNetManifest,
    calibrations: Mapping[Mode, Calibration],
    evaluations: Mapping[str, Evaluation],
    *,
    sets: Sequence[Described],
    limits: str,
) -> str:
    """The card as Markdown."""
    training = manifest.training
    prior = ", ".join(f"{code} {share:.1%}" for code, share in training["class_prior"].items())
    parts = [
        f"# {manifest.family}/{manifest.release}",
        f"LRID-Net (Choi & Wang 2021), variant `{training['variant']}`, {len(manifest.labels)} classes: "
        f"{', '.join(f'{label.code} ({label.name})' for label in manifest.labels)}.",
        "## What it was trained on",
        f"{training['data']}\n\nRows with audio: {training['rows']['audio']:,}. Rows with metadata only: "
        f"{training['rows']['text']:,}.\nClass mix of a training batch (the prior in its answers): {prior}.",
        "## What it does not know",
        limits or "Nothing was stated.",
        "## When it answers",
        f"Temperatures and thresholds were fitted on validation rows, each case by itself: the least threshold with "
        f"{WANTED_PRECISION:.0%} right answers among those given. Below it the answer is `und`.",
        _calibration_table(calibrations),
        "## Figures",
        "P / R / F1, macro over the classes that occur and weighted by support. *ECE* over 15 bins. *Precision* "
        "(of what is answered) and *coverage* are at the thresholds above.",
    ]
    parts += [f"### {chosen.name}\n{chosen.note}\n\n{markdown(evaluations[chosen.name])}".rstrip() for chosen in sets]
    return "\n\n".join(parts) + "\n"


def _calibration_table(calibrations: Mapping[Mode, Calibration]) -> str:
    lines = ["| case | temperature | threshold | precision (validation) | coverage (validation) |", "|---|---|---|---|---|"]
    for mode, c in calibrations.items():
        reached = f"{c.precision:.3f} | {c.coverage:.3f}" if c.coverage else "not reached | 0"
        lines.append(f"| {TITLES[mode]} | {c.temperature:g} | {c.threshold:g} | {reached} |")
    return "\n".join(lines)
