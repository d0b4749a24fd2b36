"""Collects the figures of one set of rows in each case, and writes them for people (Choi & Wang 2021, §5)."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from app.lab import markdown as md
from app.lab.evaluation import metrics
from app.lab.evaluation.answers import UNDECIDED, UNSUNG, Answers

CURVE_POINTS = 201  # of coverage against precision, kept in reports


@dataclass(frozen=True, slots=True)
class LabelReport:
    """Holds what predictions alone tell."""

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

    @property
    def held_macro_f1(self) -> float:
        """Averages F1 over the classes that the rows hold: others that are answered cost recall, but are not averaged."""
        return sum(self.f1.values()) / len(self.f1)

    @property
    def by_support(self) -> list[str]:
        """Lists codes, the most frequent class first."""
        return sorted(self.support, key=lambda code: -self.support[code])


@dataclass(frozen=True, slots=True)
class Unsung:
    """Says whether the release tells recordings in which nothing is sung (`zxx`)."""

    rows: int  # in which nothing is sung
    found: float  # share of them that is answered `zxx`
    false_alarms: float  # share of the sung ones that is


@dataclass(frozen=True, slots=True)
class CaseReport(LabelReport):
    """Adds what probabilities and decisions tell."""

    ece: float  # over 15 bins
    nll: float  # nats
    answered_precision: float  # of sung rows whose answer is not `und`
    coverage: float  # share of sung rows whose answer is not `und`
    windows: float  # mean number that were listened to
    unsung: Unsung | None  # None where every row is sung
    reliability: list[dict[str, float]]  # of each bin that holds rows: confidence, accuracy, rows
    curve: list[dict[str, float]]  # operating points by falling threshold: threshold, precision, coverage

    def summary(self) -> dict[str, Any]:
        """Returns the part that goes into a manifest."""
        figures = {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro.f1,
            "held_macro_f1": self.held_macro_f1,
            "weighted_f1": self.weighted.f1,
            "ece": self.ece,
            "precision_answered": self.answered_precision,
            "coverage": self.coverage,
        }
        return {"rows": self.rows} | {name: round(value, 4) for name, value in figures.items()}


Evaluation = dict[str, CaseReport]  # by the name of the case


@dataclass(frozen=True, slots=True)
class Measured:
    """Holds the figures of a release on a set of rows."""

    name: str  # of the rows
    data: str  # what they are: catalogue, split
    release: str  # which weights, which seed
    codes: list[str]
    cases: Evaluation


def title(case: str) -> str:
    """`audio_only` → audio only."""
    return case.replace("_", " ")


def label_report(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], codes: Sequence[str]) -> LabelReport:
    """Measures (n,) predicted classes against true ones."""
    classes = range(len(codes))
    *scores, support = precision_recall_fscore_support(labels, predictions, labels=classes, zero_division=0)
    precision, recall, f1 = (
        {code: float(x) for code, x, n in zip(codes, score, support, strict=True) if n} for score in scores
    )
    return LabelReport(
        rows=len(labels),
        accuracy=float((labels == predictions).mean()),
        balanced_accuracy=float(np.mean(list(recall.values()))),
        macro=metrics.average(labels, predictions, "macro"),
        weighted=metrics.average(labels, predictions, "weighted"),
        precision=precision,
        recall=recall,
        f1=f1,
        support={code: int(n) for code, n in zip(codes, support, strict=True) if n},
        confusion=confusion_matrix(labels, predictions, labels=classes).tolist(),
    )


def case_report(answers: Answers, codes: Sequence[str]) -> CaseReport:
    """Measures the rows that are sung, and whether those that are not are told. Raises ValueError."""
    sung, told = answers.labels != UNSUNG, answers.decisions == UNSUNG
    labels, probabilities, decisions = answers.labels[sung], answers.probabilities[sung], answers.decisions[sung]
    curve = metrics.coverage_curve(labels, probabilities)
    plain = label_report(labels, probabilities.argmax(axis=1), codes)
    kept = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int))
    answered = decisions != UNDECIDED
    return CaseReport(
        **{field.name: getattr(plain, field.name) for field in fields(plain)},
        ece=metrics.expected_calibration_error(labels, probabilities),
        nll=metrics.negative_log_likelihood(labels, probabilities),
        answered_precision=float((decisions == labels).sum() / max(1, answered.sum())),
        coverage=float(answered.mean()),
        windows=float(answers.windows.mean()),
        unsung=None if sung.all() else Unsung(int((~sung).sum()), float(told[~sung].mean()), float(told[sung].mean())),
        reliability=_rounded(metrics.reliability(labels, probabilities)),
        curve=_rounded(curve[i] for i in kept),
    )


def _rounded(points: Iterable[metrics.Bin | metrics.OperatingPoint]) -> list[dict[str, float]]:
    return [{name: round(float(value), 5) for name, value in asdict(point).items()} for point in points]


HEADS = (
    "case", "rows", "macro P / R / F1", "held F1", "weighted P / R / F1", "accuracy", "balanced", "ECE", "precision",
    "coverage", "windows",
)  # fmt: skip


def markdown(evaluation: Evaluation) -> str:
    """Writes the averages of each case, whether unsung rows are told, and F1 by class, most frequent first."""
    rows = [
        (title(name), c.rows, c.macro, c.held_macro_f1, c.weighted, c.accuracy, c.balanced_accuracy, c.ece,
         c.answered_precision, c.coverage, f"{c.windows:.1f}")
        for name, c in evaluation.items()
    ]  # fmt: skip
    unsung = [
        f"Nothing sung, {title(name)}: {case.unsung.found:.3f} of {case.unsung.rows} rows are answered `zxx`, and "
        f"{case.unsung.false_alarms:.3f} of the sung ones."
        for name, case in evaluation.items()
        if case.unsung
    ]
    return "\n\n".join([md.table(HEADS, rows), *unsung, _by_class(evaluation)]) + "\n"


def _by_class(evaluation: Evaluation) -> str:
    support: dict[str, int] = {}
    for case in evaluation.values():
        support |= {code: max(n, support.get(code, 0)) for code, n in case.support.items()}
    codes = sorted(support, key=lambda code: -support[code])
    cases = evaluation.values()
    rows = [(code, *(f"{c.f1[code]:.2f} ({c.support[code]})" if code in c.f1 else "" for c in cases)) for code in codes]
    return md.table(["F1", *map(title, evaluation)], rows)


def class_table(report: LabelReport) -> str:
    """Writes precision, recall and F1 of each class, by support (the paper's table 3)."""
    rows = [
        (code, report.precision[code], report.recall[code], report.f1[code], f"{report.support[code]:,}")
        for code in report.by_support
    ]
    return md.table(["language", "precision", "recall", "F1", "support"], rows) + "\n"


def as_page(measured: Measured) -> str:
    """Writes evaluation.md: everything, with the pictures that lie beside it."""
    parts = [
        f"# {measured.release.split(' (')[0]} on {measured.name}",
        f"Data: {measured.data}  \nRelease: {measured.release}",
        "P / R / F1: macro over the classes that occur in truth or answers, and weighted by support; *held F1*: macro over "
        "the classes that the rows hold. ECE over 15 bins. *Precision* (of what is answered) and *coverage* are those of "
        "the release's own decisions; the rest is answered `und`. *Windows*: mean number listened to.",
        markdown(measured.cases),
        *(f"## {title(name).capitalize()}, by support\n\n{class_table(case)}" for name, case in measured.cases.items()),
    ]
    pictures = {"Reliability": "reliability", "Coverage": "coverage"}
    pictures |= {f"Confusion, {title(name)}": f"confusion_{name}" for name in measured.cases}
    parts.append("\n".join(f"![{what}]({name}.png)" for what, name in pictures.items()))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
