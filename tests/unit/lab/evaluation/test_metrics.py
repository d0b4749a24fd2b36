"""Against scikit-learn, which is independent of this code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

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


@settings(max_examples=60, deadline=None)
@given(answers())
def test_scores_equal_scikit_learn(given_answers: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = given_answers
    predictions = probabilities.argmax(axis=1)
    matrix = metrics.confusion(labels, predictions, N_CLASSES)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(labels, predictions, labels=range(N_CLASSES)))
    scores = metrics.per_class(matrix)
    p, r, f, n = sk.precision_recall_fscore_support(labels, predictions, labels=range(N_CLASSES), zero_division=0)
    for ours, theirs in ((scores.precision, p), (scores.recall, r), (scores.f1, f), (scores.support, n)):
        np.testing.assert_allclose(ours, theirs)
    for average, function in (("macro", metrics.macro), ("weighted", metrics.weighted)):
        p, r, f, _ = sk.precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
        ours = function(matrix)
        np.testing.assert_allclose([ours.precision, ours.recall, ours.f1], [p, r, f])
    assert metrics.accuracy(matrix) == pytest.approx(sk.accuracy_score(labels, predictions))
    recalls = sk.recall_score(labels, predictions, labels=np.unique(labels), average=None)
    assert metrics.balanced_accuracy(matrix) == pytest.approx(recalls.mean())
    floored = np.maximum(probabilities, 1e-12)  # as `negative_log_likelihood` does; scikit-learn's own floor is 2e-16
    loss = sk.log_loss(labels, floored, labels=range(N_CLASSES))
    assert metrics.negative_log_likelihood(labels, probabilities) == pytest.approx(loss)


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
    np.testing.assert_allclose(found.confidence, [0.61, 0.95])
    np.testing.assert_allclose(found.accuracy, [0.5, 1.0])
    np.testing.assert_array_equal(found.rows, [2, 2])
    expected = (2 * 0.11 + 2 * 0.05) / 4
    assert metrics.expected_calibration_error(np.array([0, 1, 0, 0]), probabilities, bins=10) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_every_point_of_the_curve_is_the_operating_point_of_its_threshold(given_answers: tuple) -> None:
    labels, probabilities = given_answers
    curve = metrics.coverage_curve(labels, probabilities)
    assert (np.diff(curve.threshold) < 0).all()
    for threshold, precision, coverage in zip(curve.threshold, curve.precision, curve.coverage, strict=True):
        point = metrics.at_threshold(labels, probabilities, threshold)
        assert (point.precision, point.coverage) == pytest.approx((precision, coverage))
    assert curve.coverage[-1] == 1


def test_coverage_at_precision_by_hand() -> None:
    best = np.array([0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([best, 1 - best], axis=1)
    labels = np.array([0, 0, 1, 0])
    point = metrics.coverage_at_precision(labels, probabilities, 0.95)
    assert point == metrics.OperatingPoint(0.8, 1.0, 0.5)
    assert metrics.coverage_at_precision(labels, probabilities, 0.7).coverage == 1.0
    assert metrics.coverage_at_precision(np.array([1, 1, 1, 1]), probabilities, 0.5) is None


def test_equal_confidences_are_answered_together() -> None:
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2]])
    assert metrics.coverage_at_precision(np.array([0, 1, 1]), probabilities, 0.95) is None


@settings(max_examples=60, deadline=None)
@given(answers(), st.floats(0.05, 1.0))
def test_the_threshold_does_what_it_promises(given_answers: tuple[np.ndarray, np.ndarray], wanted: float) -> None:
    labels, probabilities = given_answers
    point = metrics.coverage_at_precision(labels, probabilities, wanted)
    candidates = [metrics.at_threshold(labels, probabilities, t) for t in np.unique(probabilities.max(axis=1))]
    reaching = [c for c in candidates if c.precision >= wanted]
    if point is None:
        assert not reaching
    else:
        assert point.precision >= wanted
        assert point == min(reaching, key=lambda c: c.threshold)  # no lower threshold would do


@pytest.mark.parametrize(
    ("labels", "predictions", "says"),
    [
        ([], [], "no labels"),
        ([0, 1], [0], "one length"),
        ([0, 5], [0, 0], "labels must be integers from 0 to 4"),
        ([0, 1], [0, -1], "predictions must be"),
        ([[0]], [[0]], "vectors"),
    ],
)
def test_labels_that_cannot_be_measured(labels: list, predictions: list, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        metrics.confusion(np.array(labels, int), np.array(predictions, int), N_CLASSES)


def test_fractions_are_not_classes() -> None:
    with pytest.raises(ValueError, match="labels must be integers"):
        metrics.confusion(np.array([0.0, 1.0]), np.array([0, 1]), N_CLASSES)


@pytest.mark.parametrize(
    ("probabilities", "says"),
    [
        ([[0.5, 0.5]], r"must be \(2, n_classes\)"),
        ([[0.5, 0.5], [0.5, 0.6]], "sum to 1"),
        ([[1.5, -0.5], [0.5, 0.5]], "not negative"),
        ([[np.nan, 1.0], [0.5, 0.5]], "finite"),
    ],
)
def test_probabilities_that_are_none(probabilities: list, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        metrics.expected_calibration_error(np.array([0, 1]), np.array(probabilities))


def test_classes_may_have_thresholds_of_their_own() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.45, 0.55]])
    assert metrics.at_threshold(labels, probabilities, 0.65).coverage == 0.5
    own = metrics.at_threshold(labels, probabilities, 0.65, {1: 0.5})
    assert (own.coverage, own.precision) == (0.75, 1.0)
