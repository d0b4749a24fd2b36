"""CARD.md of an `lrid_net_plus`."""

from __future__ import annotations

from collections.abc import Mapping

from app.evaluation.calibrate import WANTED_PRECISION, Calibration
from app.evaluation.evaluate import TITLES, Evaluation, markdown
from app.families.contract import Mode
from app.families.lrid_net_plus.config import LridNetPlusManifest


def write(
    manifest: LridNetPlusManifest,
    calibrations: Mapping[Mode, Calibration],
    evaluations: Mapping[str, Evaluation],
    *,
    notes: Mapping[str, str],
    limits: str,
) -> str:
    """The card as Markdown. `notes` say, by name of a set, what its rows are."""
    training = manifest.training
    prior = ", ".join(f"{code} {share:.1%}" for code, share in training["class_prior"].items())
    heard = (
        "The audio's part of h was learnt for this f."
        if training["listens"]
        else "It does not listen: an audio changes no answer to text, and audio alone is answered with `und`. This f has "
        "not earned trust on real voices."
    )
    parts = [
        f"# {manifest.family}/{manifest.release}",
        f"LRID-Net (Choi & Wang 2021) with a reader of its own: hashed n-grams of artist, album and title, langdetect's "
        f"profiles without its random draws, and script shares. {manifest.read.n_features} text features, "
        f"{len(manifest.labels)} classes: {', '.join(f'{label.code} ({label.name})' for label in manifest.labels)}.",
        "## What it was trained on",
        f"{training['data']}\n\nRows of metadata: {training['rows']:,}. f: {training['trunk']}. {heard}",
        f"Class mix of a training batch, which is the prior in its answers: {prior}. `LRID_CATALOG_PRIOR` exchanges it.",
        "## What it does not know",
        limits,
        "## When it answers",
        f"Fitted on validation rows in the class mix above: the temperature by likelihood, then the least threshold with "
        f"{WANTED_PRECISION:.0%} right answers among those given. Below it the answer is `und`.",
        _calibration_table(calibrations),
        "## Figures",
        "P / R / F1, macro over the classes that occur in truth or answers, and weighted by support. *ECE* over 15 bins. "
        "*Precision* (of what is answered) and *coverage* are at the thresholds above. *Supported* is macro F1 over the "
        "classes that the rows hold.",
        _summary_table(evaluations),
    ]
    parts += [f"### {name}\n{note}\n\n{markdown(evaluations[name])}".rstrip() for name, note in notes.items()]
    return "\n\n".join(parts) + "\n"


def supported_macro(evaluation: Evaluation) -> float:
    """Macro F1 of text alone over the classes with support."""
    f1 = evaluation["text_only"].f1
    support = evaluation["text_only"].support
    held = [f1[code] for code in f1 if support[code]]
    return sum(held) / len(held)


def _summary_table(evaluations: Mapping[str, Evaluation]) -> str:
    lines = [
        "| text only | rows | macro F1 | supported | weighted F1 | accuracy | ECE | precision | coverage |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, evaluation in evaluations.items():
        case = evaluation["text_only"]
        lines.append(
            f"| {name} | {case.rows} | {case.macro.f1:.3f} | {supported_macro(evaluation):.3f} | {case.weighted.f1:.3f} | "
            f"{case.accuracy:.3f} | {case.ece:.3f} | {case.answered.precision:.3f} | {case.answered.coverage:.3f} |"
        )
    return "\n".join(lines)


def _calibration_table(calibrations: Mapping[Mode, Calibration]) -> str:
    lines = ["| case | temperature | threshold | precision (validation) | coverage (validation) |", "|---|---|---|---|---|"]
    for mode, c in calibrations.items():
        reached = f"{c.precision:.3f} | {c.coverage:.3f}" if c.coverage else "not reached | 0"
        lines.append(f"| {TITLES[mode]} | {c.temperature:g} | {c.threshold:g} | {reached} |")
    return "\n".join(lines)
