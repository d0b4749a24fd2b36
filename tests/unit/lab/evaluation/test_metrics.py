"""Cases worked by hand, and properties."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lab.evaluation import metrics

N_CLASSES = 5


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities; some classes may be missing on either side."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.integers(1, N_CLASSES))
    labels = rng.integers(0, classes, n)
    probabilities = rng.dirichlet(np.full(N_CLASSES, 0.5), n)
    return labels, probabilities


def at_threshold(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> tuple[float, float]:
    """Precision and coverage of the answers that reach it."""
    answered = probabilities.max(axis=1) >= threshold
    return float((probabilities.argmax(axis=1) == labels)[answered].mean()), float(answered.mean())


def test_scores_of_a_case_worked_by_hand() -> None:
    labels, predictions = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])
    assert metrics.average(labels, predictions, "macro").f1 == pytest.approx(0.8 / 3)  # three classes occur
    assert metrics.average(labels, predictions, "weighted").f1 == pytest.approx(0.6)
    assert metrics.negative_log_likelihood(labels[:2], np.array([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx(np.log(2) / 2)


def test_calibration_error_of_cases_worked_by_hand() -> None:
    certain = np.eye(2)[[0, 0, 1, 1]]
    assert metrics.expected_calibration_error(np.array([0, 0, 1, 1]), certain) == 0
    assert metrics.expected_calibration_error(np.array([0, 1, 1, 0]), certain) == pytest.approx(0.5)
    # two bins: confidence .6 right half the time (gap .1), confidence .9 always right (gap .1)
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    assert metrics.expected_calibration_error(np.array([0, 1, 0, 0]), probabilities) == pytest.approx(0.1)


def test_reliability_and_its_distance_from_the_diagonal_by_hand() -> None:
    probabilities = np.array([[0.6, 0.4], [0.62, 0.38], [0.9, 0.1], [1.0, 0.0]])
    found = metrics.reliability(np.array([0, 1, 0, 0]), probabilities, bins=10)
    np.testing.assert_allclose([own.confidence for own in found], [0.61, 0.95])
    np.testing.assert_allclose([own.accuracy for own in found], [0.5, 1.0])
    assert [own.rows for own in found] == [2, 2]
    expected = (2 * 0.11 + 2 * 0.05) / 4
    assert metrics.expected_calibration_error(np.array([0, 1, 0, 0]), probabilities, bins=10) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_every_point_of_the_curve_is_the_operating_point_of_its_threshold(given_answers: tuple[Any, ...]) -> None:
    labels, probabilities = given_answers
    curve = metrics.coverage_curve(labels, probabilities)
    assert (np.diff([point.threshold for point in curve]) < 0).all()
    for point in curve:
        assert at_threshold(labels, probabilities, point.threshold) == pytest.approx((point.precision, point.coverage))
    assert curve[-1].coverage == 1


def test_coverage_at_precision_by_hand() -> None:
    best = np.array([0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([best, 1 - best], axis=1)
    labels = np.array([0, 0, 1, 0])
    point = metrics.coverage_at_precision(labels, probabilities, 0.95)
    assert point == metrics.OperatingPoint(0.8, 1.0, 0.5)
    least = metrics.coverage_at_precision(labels, probabilities, 0.7)
    assert least is not None
    assert least.coverage == 1.0
    assert metrics.coverage_at_precision(np.array([1, 1, 1, 1]), probabilities, 0.5) is None


def test_equal_confidences_are_answered_together() -> None:
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2]])
    assert metrics.coverage_at_precision(np.array([0, 1, 1]), probabilities, 0.95) is None


@settings(max_examples=60, deadline=None)
@given(answers(), st.floats(0.05, 1.0))
def test_the_threshold_does_what_it_promises(given_answers: tuple[np.ndarray, np.ndarray], wanted: float) -> None:
    labels, probabilities = given_answers
    point = metrics.coverage_at_precision(labels, probabilities, wanted)
    thresholds = np.unique(probabilities.max(axis=1))
    reaching = [t for t in thresholds if at_threshold(labels, probabilities, t)[0] >= wanted]
    if point is None:
        assert not reaching
    else:
        assert point.precision >= wanted
        assert point.threshold == min(reaching)  # no lower threshold would do


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([], int), "no labels"),
        (np.array([0, 2]), "labels must be integers from 0 to 1"),
        (np.array([0, -1]), "labels must be integers from 0 to 1"),
        (np.array([0.0, 1.0]), "labels must be integers"),
    ],
)
def test_labels_that_cannot_be_measured(labels: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        metrics.reliability(labels, np.full((len(labels), 2), 0.5))


@pytest.mark.parametrize(
    ("probabilities", "says"),
    [
        ([[0.5, 0.5]], r"must be \(2, n_classes\)"),
        ([[0.5, 0.5], [0.5, 0.6]], "sum to 1"),
        ([[1.5, -0.5], [0.5, 0.5]], "not negative"),
        ([[np.nan, 1.0], [0.5, 0.5]], "finite"),
    ],
)
def test_probabilities_that_are_none(probabilities: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        metrics.expected_calibration_error(np.array([0, 1]), np.array(probabilities))
