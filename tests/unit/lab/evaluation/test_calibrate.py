import numpy as np
import pytest
from scipy.special import softmax

from app.lab.evaluation.calibrate import UNREACHABLE, calibrate
from app.lab.evaluation.metrics import expected_calibration_error


def made(n: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, and those logits `sharpness` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, (n, 4))
    chances = softmax(logits, axis=1)
    labels = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_over_and_under_confidence(sharpness: float) -> None:
    logits, labels = made(6_000, sharpness, 0)
    found = calibrate(logits, labels)
    assert found.temperature == pytest.approx(sharpness, rel=0.08)
    assert expected_calibration_error(labels, softmax(logits / found.temperature, axis=1)) < 0.03


def test_the_threshold_holds_on_other_rows() -> None:
    found = calibrate(*made(6_000, 2.0, 1))
    assert found.precision >= 0.95
    logits, labels = made(6_000, 2.0, 2)
    probabilities = softmax(logits / found.temperature, axis=1)
    answered = probabilities.max(axis=1) >= found.threshold
    assert (probabilities.argmax(axis=1) == labels)[answered].mean() > 0.93
    assert answered.mean() == pytest.approx(found.coverage, abs=0.05)


def test_logits_that_know_nothing_are_hardly_answered() -> None:
    rng = np.random.default_rng(3)
    found = calibrate(rng.normal(0, 1, (500, 4)), rng.integers(0, 4, 500))
    assert found.threshold == UNREACHABLE
    assert found.coverage == 0


def test_a_handful_of_right_answers_proves_nothing() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 300)
    logits = rng.normal(0, 0.1, (300, 4))
    logits[:10] = 8 * np.eye(4)[labels[:10]]  # ten sure and right answers, the rest is noise
    assert calibrate(logits, labels).threshold == UNREACHABLE
