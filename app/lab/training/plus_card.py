"""CARD.md of an `lrid_net_plus`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.families.lrid_net_plus.config import LridNetPlusManifest
from app.lab.evaluation.calibrate import WANTED_PRECISION
from app.lab.evaluation.evaluate import TITLES, CaseReport, Evaluation, markdown
from app.lab.training.plus_calibrate import WANTED_IN_LANGUAGE, PlusCalibration


@dataclass(frozen=True, slots=True)
class Told:
    """What was measured."""

    calibration: PlusCalibration
    evaluations: Mapping[str, Evaluation]
    priors: Mapping[str, CaseReport]  # text only, under other class mixes
    notes: Mapping[str, str]  # by name of a set, what its rows are


def write(manifest: LridNetPlusManifest, told: Told, *, held_out_note: str, limits: str) -> str:
    """The card as Markdown."""
    training = manifest.training
    prior = ", ".join(f"{code} {share:.2%}" for code, share in training["class_prior"].items())
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
        f"Class mix in its answers: {prior}. `LRID_CATALOG_PRIOR` exchanges it.",
        "## What it does not know",
        limits,
        "## When it answers",
        f"{held_out_note} The temperature has the best likelihood there, over all fields, artist and title, and the title "
        f"alone together. Each language has the least threshold at which {WANTED_IN_LANGUAGE:.0%} of what is answered as it "
        f"are right; one with too few rows for that has the threshold of all ({WANTED_PRECISION:.0%}). Below it the "
        "answer is `und`. The threshold of a language applies where text was read.",
        _calibration_table(told.calibration),
        "## Figures",
        "P / R / F1, macro over the classes that occur in truth or answers, and weighted by support. *ECE* over 15 bins. "
        "*Precision* (of what is answered) and *coverage* are at the thresholds above. *Held* is macro F1 over the "
        "classes that the rows hold.",
        _summary_table(told),
    ]
    parts += [f"### {name}\n{note}\n\n{markdown(told.evaluations[name])}".rstrip() for name, note in told.notes.items()]
    return "\n\n".join(parts) + "\n"


def _summary_table(told: Told) -> str:
    lines = [
        "| text only | rows | macro F1 | held F1 | weighted F1 | accuracy | ECE | precision | coverage |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cases = {name: found["text_only"] for name, found in told.evaluations.items() if "text_only" in found} | dict(
        told.priors
    )
    for name, case in cases.items():
        lines.append(
            f"| {name} | {case.rows} | {case.macro.f1:.3f} | {case.held_macro_f1:.3f} | {case.weighted.f1:.3f} | "
            f"{case.accuracy:.3f} | {case.ece:.3f} | {case.answered.precision:.3f} | {case.answered.coverage:.3f} |"
        )
    return "\n".join(lines)


def _calibration_table(calibration: PlusCalibration) -> str:
    lines = ["| case | temperature | threshold |", "|---|---|---|"]
    lines += [f"| {TITLES[mode]} | {c.temperature:g} | {c.threshold:g} |" for mode, c in calibration.modes.items()]
    lines += ["", "| language | " + " | ".join(calibration.by_language) + " |"]
    lines += ["|---" * (len(calibration.by_language) + 1) + "|"]
    lines += ["| threshold | " + " | ".join(f"{t:g}" for t in calibration.by_language.values()) + " |"]
    lines += ["", "| held-out rows, given | precision | coverage | ECE |", "|---|---|---|---|"]
    lines += [f"| {name} | {p:.3f} | {c:.3f} | {ece:.3f} |" for name, (p, c, ece) in calibration.answered.items()]
    return "\n".join(lines)
