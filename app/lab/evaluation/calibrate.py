"""Fits temperature and threshold of one mode to validation rows (Guo et al. 2017)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from app.lab.evaluation.metrics import coverage_at_precision, negative_log_likelihood

WANTED_PRECISION = 0.95  # of what is answered
LEAST_ANSWERED = 20  # rows; a precision measured on fewer says nothing
UNREACHABLE = 0.99  # the threshold where validation does not reach the wanted precision: hardly anything is answered
TEMPERATURES = np.exp(np.linspace(np.log(0.2), np.log(10.0), 400))  # searched; 1 % steps


@dataclass(frozen=True, slots=True)
class Calibration:
    temperature: float
    threshold: float
    precision: float  # of what validation answers at the threshold
    coverage: float


def calibrate(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Calibration:
    """Finds the temperature with the least negative log-likelihood, then the least threshold with the wanted precision."""
    logits = logits.astype(np.float64)
    losses = [negative_log_likelihood(labels, softmax(logits / t, axis=1)) for t in TEMPERATURES]
    temperature = round(float(TEMPERATURES[int(np.argmin(losses))]), 4)
    probabilities = softmax(logits / temperature, axis=1)
    point = coverage_at_precision(labels, probabilities, WANTED_PRECISION)
    if point is None or point.coverage * len(labels) < LEAST_ANSWERED:
        return Calibration(temperature, UNREACHABLE, 0.0, 0.0)
    return Calibration(temperature, round(point.threshold, 4), point.precision, point.coverage)
