"""Measures a classifier of one language per track.

Conventions
-----------
- `labels`: (n,) integers, the true classes. `predictions`: (n,) integers. Classes are 0 .. n_classes - 1, in label order.
- `probabilities`: (n, n_classes), rows sum to 1; functions that take them raise ValueError where they do not.
- Precision, recall, F1 and their averages are scikit-learn's, with 0 where nothing can be divided by: the precision of a
  class that is never predicted, the recall of one without tracks. `macro` is over the classes in truth or predictions.
- *Coverage* is the share of tracks that are answered when the answer is withheld under a threshold; precision is then the
  share of right ones among the answers.

Sources: precision, recall, F1 as in Choi & Wang 2021, §5; calibration error and reliability diagrams: Guo et al., On
Calibration of Modern Neural Networks, ICML 2017; coverage against precision: El-Yaniv & Wiener, On the Foundations of
Noise-free Selective Classification, JMLR 2010.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.lab.errors import LabError

try:
    from sklearn.metrics import precision_recall_fscore_support
except ImportError as error:
    raise LabError("Measuring needs scikit-learn: python -m pip install -e '.[train]'") from error

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Average:
    """Holds precision, recall and F1 averaged over classes."""

    precision: float
    recall: float
    f1: float

    def __str__(self) -> str:
        """Writes them as the paper prints them."""
        return f"{self.precision:.3f} / {self.recall:.3f} / {self.f1:.3f}"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Says what answering only from `threshold` on gives."""

    threshold: float
    precision: float  # share of the answers that are right
    coverage: float  # share of the tracks that are answered


@dataclass(frozen=True, slots=True)
class Bin:
    """Holds the rows whose best probability lies in one of several stretches of equal width."""

    confidence: float  # mean best probability
    accuracy: float
    rows: int


def validate_probabilities(labels: Ints, probabilities: Floats) -> None:
    """Raises ValueError unless rows are distributions that fit the labels, and there are any."""
    if not len(labels):
        raise ValueError("there is nothing to measure: no labels")
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(f"probabilities must be ({len(labels)}, n_classes), are {probabilities.shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels must be integers from 0 to {probabilities.shape[1] - 1}")
    if not np.isfinite(probabilities).all() or probabilities.min() < 0:
        raise ValueError("probabilities must be finite and not negative")
    if np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("each row of probabilities must sum to 1")


def average(labels: Ints, predictions: Ints, kind: Literal["macro", "weighted"]) -> Average:
    """`macro`: every class that occurs counts the same. `weighted`: classes count by their support."""
    found = precision_recall_fscore_support(labels, predictions, average=kind, zero_division=0)
    return Average(*(float(value) for value in found[:3]))


def negative_log_likelihood(labels: Ints, probabilities: Floats) -> float:
    """Averages over rows, in nats; a probability under 1e-12 counts as that."""
    validate_probabilities(labels, probabilities)
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def reliability(labels: Ints, probabilities: Floats, bins: int = 15) -> list[Bin]:
    """Compares confidence with accuracy, in bins that hold rows: they are equal where probabilities are calibrated."""
    validate_probabilities(labels, probabilities)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    held = [bin_of == number for number in np.unique(bin_of)]
    return [Bin(float(confidence[own].mean(dtype=float)), float(right[own].mean()), int(own.sum())) for own in held]


def expected_calibration_error(labels: Ints, probabilities: Floats, bins: int = 15) -> float:
    """Averages the distance of confidence and accuracy over the bins of `reliability`, weighted by their rows."""
    found = reliability(labels, probabilities, bins)
    return sum(abs(own.accuracy - own.confidence) * own.rows for own in found) / len(labels)


def coverage_curve(labels: Ints, probabilities: Floats) -> list[OperatingPoint]:
    """Finds precision and coverage at each distinct best probability as threshold, the highest first."""
    validate_probabilities(labels, probabilities)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    confidence, best = probabilities.max(axis=1)[order], probabilities.argmax(axis=1)[order]
    right = (best == labels[order]).cumsum()
    last_of_tie = np.append(confidence[1:] < confidence[:-1], True)  # equal confidences go together
    return [
        OperatingPoint(float(confidence[i]), float(right[i] / (i + 1)), float((i + 1) / len(labels)))
        for i in np.flatnonzero(last_of_tie)
    ]


def coverage_at_precision(labels: Ints, probabilities: Floats, precision: float) -> OperatingPoint | None:
    """Finds the smallest threshold whose answers are right at least this often; None where no threshold reaches it."""
    good = [point for point in coverage_curve(labels, probabilities) if point.precision >= precision]
    return good[-1] if good else None
