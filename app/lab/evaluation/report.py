"""The figures of one set of rows in each case, and how people read them (Choi & Wang 2021, §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from app.lab.evaluation import metrics
from app.lab.evaluation.answers import UNDECIDED, UNSUNG, Answers

CURVE_POINTS = 201  # of coverage against precision, kept in reports


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What predictions alone tell."""

    rows: int
    accuracy: float
    balanced_accuracy: float  # mean recall over the classes that occur in the truth
    macro: metrics.Average  # over the classes that occur in truth or answers
    weighted: metrics.Average
    precision: dict[str, float]  # by code, of classes that occur; so are the next three
    recall: dict[str, float]
    f1: dict[str, float]
    support: dict[str, int]
    confusion: list[list[int]]  # truth in rows

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain objects, for JSON."""
        return asdict(self)

    @property
    def held_macro_f1(self) -> float:
        """Macro F1 over the classes that the rows hold: others that are answered cost recall, but are not averaged."""
        held = [self.f1[code] for code, n in self.support.items() if n]
        return sum(held) / len(held)

    @property
    def by_support(self) -> list[str]:
        """Codes, the most frequent class first."""
        return sorted(self.support, key=lambda code: -self.support[code])


@dataclass(frozen=True, slots=True)
class Unsung:
    """Whether the release tells recordings in which nothing is sung (`zxx`)."""

    rows: int  # in which nothing is sung
    found: float  # share of them that is answered `zxx`
    false_alarms: float  # share of the sung ones that is


@dataclass(frozen=True, slots=True)
class CaseReport(LabelReport):
    """What probabilities and decisions tell beyond that."""

    ece: float  # over 15 bins
    nll: float  # nats
    answered_precision: float  # of sung rows whose answer is not `und`
    coverage: float  # share of sung rows whose answer is not `und`
    windows: float  # mean number that were listened to
    unsung: Unsung | None  # None where every row is sung
    reliability: list[dict[str, float]]  # of each bin that holds rows: confidence, accuracy, rows
    curve: list[dict[str, float]]  # operating points by falling threshold: threshold, precision, coverage

    def summary(self) -> dict[str, Any]:
        """The part that goes into a manifest."""
        return {
            "rows": self.rows,
            "accuracy": round(self.accuracy, 4),
            "balanced_accuracy": round(self.balanced_accuracy, 4),
            "macro_f1": round(self.macro.f1, 4),
            "held_macro_f1": round(self.held_macro_f1, 4),
            "weighted_f1": round(self.weighted.f1, 4),
            "ece": round(self.ece, 4),
            "precision_answered": round(self.answered_precision, 4),
            "coverage": round(self.coverage, 4),
        }


Evaluation = dict[str, CaseReport]  # by the name of the case


@dataclass(frozen=True, slots=True)
class Measured:
    """A release on a set of rows."""

    name: str  # of the rows
    data: str  # what they are: catalogue, split
    release: str  # which weights, which seed
    codes: list[str]
    cases: Evaluation


def title(case: str) -> str:
    """`audio_only` → audio only."""
    return case.replace("_", " ")


def label_report(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], codes: Sequence[str]) -> LabelReport:
    """(n,) true and predicted classes → their figures. Raises ValueError if there is nothing to measure."""
    matrix = metrics.confusion(labels, predictions, len(codes))
    scores = metrics.per_class(labels, predictions, len(codes))
    occurring = [i for i in range(len(codes)) if scores.support[i]]
    return LabelReport(
        rows=len(labels),
        accuracy=float((labels == predictions).mean()),
        balanced_accuracy=float(scores.recall[occurring].mean()),
        macro=metrics.average(labels, predictions, "macro"),
        weighted=metrics.average(labels, predictions, "weighted"),
        precision={codes[i]: float(scores.precision[i]) for i in occurring},
        recall={codes[i]: float(scores.recall[i]) for i in occurring},
        f1={codes[i]: float(scores.f1[i]) for i in occurring},
        support={codes[i]: int(scores.support[i]) for i in occurring},
        confusion=matrix.tolist(),
    )


def case_report(answers: Answers, codes: Sequence[str]) -> CaseReport:
    """The figures of the rows that are sung, and of those that are not whether they are told. Raises ValueError."""
    sung = answers.labels != UNSUNG
    labels, probabilities, decisions = answers.labels[sung], answers.probabilities[sung], answers.decisions[sung]
    plain = label_report(labels, probabilities.argmax(axis=1), codes)
    bins, curve = metrics.reliability(labels, probabilities), metrics.coverage_curve(labels, probabilities)
    kept = np.unique(np.linspace(0, len(curve.coverage) - 1, CURVE_POINTS).round().astype(int))
    answered = decisions != UNDECIDED
    return CaseReport(
        **{field.name: getattr(plain, field.name) for field in fields(plain)},
        ece=metrics.expected_calibration_error(labels, probabilities),
        nll=metrics.negative_log_likelihood(labels, probabilities),
        answered_precision=float((decisions == labels).sum() / max(1, answered.sum())),
        coverage=float(answered.mean()),
        windows=float(answers.windows.mean()),
        unsung=_unsung(answers.decisions, sung),
        reliability=_points(confidence=bins.confidence, accuracy=bins.accuracy, rows=bins.rows),
        curve=_points(threshold=curve.threshold[kept], precision=curve.precision[kept], coverage=curve.coverage[kept]),
    )


def _unsung(decisions: npt.NDArray[np.int64], sung: npt.NDArray[np.bool_]) -> Unsung | None:
    if sung.all():
        return None
    told = decisions == UNSUNG
    return Unsung(int((~sung).sum()), float(told[~sung].mean()), float(told[sung].mean()))


def _points(**columns: npt.NDArray[Any]) -> list[dict[str, float]]:
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, (round(float(value), 5) for value in row), strict=True)) for row in rows]


def markdown(evaluation: Evaluation) -> str:
    """The averages of each case, whether unsung rows are told, and F1 by class, most frequent first."""
    lines = [
        "| case | rows | macro P / R / F1 | held F1 | weighted P / R / F1 | accuracy | balanced | ECE | precision "
        "| coverage | windows |",
        "|---" * 11 + "|",
    ]
    for name, case in evaluation.items():
        lines.append(
            f"| {title(name)} | {case.rows} | {triple(case.macro)} | {case.held_macro_f1:.3f} | {triple(case.weighted)} | "
            f"{case.accuracy:.3f} | {case.balanced_accuracy:.3f} | {case.ece:.3f} | {case.answered_precision:.3f} | "
            f"{case.coverage:.3f} | {case.windows:.1f} |"
        )
    for name, case in evaluation.items():
        if case.unsung:
            lines += ["", f"Nothing sung, {title(name)}: {case.unsung.found:.3f} of {case.unsung.rows} rows are answered "
                      f"`zxx`, and {case.unsung.false_alarms:.3f} of the sung ones."]  # fmt: skip
    return "\n".join([*lines, "", *_by_class(evaluation)]) + "\n"


def _by_class(evaluation: Evaluation) -> list[str]:
    support: dict[str, int] = {}
    for case in evaluation.values():
        support |= {code: max(n, support.get(code, 0)) for code, n in case.support.items()}
    codes = sorted(support, key=lambda code: -support[code])
    lines = [f"| F1 | {' | '.join(map(title, evaluation))} |", "|---" * (len(evaluation) + 1) + "|"]
    for code in codes:
        cells = [f"{c.f1[code]:.2f} ({c.support[code]})" if code in c.f1 else "" for c in evaluation.values()]
        lines.append(f"| {code} | {' | '.join(cells)} |")
    return lines


def triple(average: metrics.Average) -> str:
    """Precision, recall and F1 as the paper prints them."""
    return f"{average.precision:.3f} / {average.recall:.3f} / {average.f1:.3f}"


def class_table(report: LabelReport) -> str:
    """Precision, recall and F1 of each class, by support (the paper's table 3)."""
    lines = ["| language | precision | recall | F1 | support |", "|---|---|---|---|---|"]
    lines += [
        f"| {code} | {report.precision[code]:.3f} | {report.recall[code]:.3f} | {report.f1[code]:.3f} | "
        f"{report.support[code]:,} |"
        for code in report.by_support
    ]
    return "\n".join(lines) + "\n"


def as_page(measured: Measured, note: str) -> str:
    """evaluation.md: everything, with the pictures that lie beside it."""
    parts = [
        f"# {measured.release.split(' (')[0]} on {measured.name}",
        f"Data: {measured.data}{f' {note}' if note else ''}  \nRelease: {measured.release}",
        "P / R / F1: macro over the classes that occur in truth or answers, and weighted by support; *held F1*: macro over "
        "the classes that the rows hold. ECE over 15 bins. *Precision* (of what is answered) and *coverage* are those of "
        "the release's own decisions; the rest is answered `und`. *Windows*: mean number listened to.",
        markdown(measured.cases),
        *(f"## {title(name).capitalize()}, by support\n\n{class_table(case)}" for name, case in measured.cases.items()),
    ]
    pictures = {"Averages": "averages", "By class": "classes", "Reliability": "reliability", "Coverage": "coverage"}
    pictures |= {f"Confusion, {title(name)}": f"confusion_{name}" for name in measured.cases}
    parts.append("\n".join(f"![{what}]({name}.png)" for what, name in pictures.items()))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
