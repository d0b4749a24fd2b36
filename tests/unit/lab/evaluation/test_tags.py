"""Measures of several labels at once, on numbers that can be checked by hand."""

import numpy as np
import pytest

from app.lab.errors import CorpusError
from app.lab.evaluation.tags import averages, by_tag, equal_rate_threshold, figures, table_4, thresholds

CODES = ["guitar", "choir"]
#                 guitar, choir
TRUTH = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0], [0, 0]], np.float32)
SAID = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.4], [0.6, 0.3], [0.2, 0.35], [0.1, 0.05]], np.float32)


def test_the_threshold_is_where_recall_equals_specificity() -> None:
    """Guitar: from 0.6 on it is right about 2 of 3 with it and 2 of 3 without, half way to the next lower answer."""
    assert equal_rate_threshold(TRUTH[:, 0], SAID[:, 0]) == pytest.approx((0.6 + 0.3) / 2)
    assert equal_rate_threshold(np.array([0, 1], np.float32), np.array([0.2, 0.8], np.float32)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="rows with the tag and rows without"):
        equal_rate_threshold(np.ones(3, np.float32), np.array([0.1, 0.2, 0.3], np.float32))


def test_area_and_rates_of_each_tag() -> None:
    guitar, choir = figures(TRUTH, SAID, CODES, thresholds(TRUTH, SAID))
    assert (guitar.auc, guitar.tpr, guitar.fpr) == pytest.approx((8 / 9, 2 / 3, 1 / 3))  # one of nine pairs is wrong
    assert (choir.auc, choir.positives, choir.rows) == pytest.approx((7 / 8, 2, 6))
    assert averages([guitar, choir]) == pytest.approx(
        {"auc": (8 / 9 + 7 / 8) / 2, "tpr": (2 / 3 + 1) / 2, "fpr": (1 / 3 + 1 / 4) / 2, "tags": 2, "rows": 6}
    )


def test_a_random_answer_has_an_area_of_a_half() -> None:
    rng = np.random.default_rng(0)
    truth, said = (rng.random((4000, 1)) < 0.1).astype(np.float32), rng.random((4000, 1)).astype(np.float32)
    (found,) = figures(truth, said, ["noise"], thresholds(truth, said))
    assert found.auc == pytest.approx(0.5, abs=0.03)
    assert found.tpr == pytest.approx(1 - (found.fpr or 0), abs=0.01)


def test_a_tag_that_no_row_has_is_left_out_of_the_average() -> None:
    truth = TRUTH * np.array([1, 0], np.float32)
    found = figures(truth, SAID, CODES, [0.45, 0.5])
    assert (found[1].auc, found[1].tpr) == (None, None)
    assert averages(found)["tags"] == 1
    assert "| choir | 0 of 6 | - | 0.500 | - | 0.000 |" in by_tag(found)
    with pytest.raises(CorpusError, match="no tag can be measured"):
        averages(found[1:])


def test_table_4_has_the_release_beside_the_paper() -> None:
    lines = table_4("lstm", {"auc": 0.9, "tpr": 0.8, "fpr": 0.2}).splitlines()
    assert lines[0] == "| model | AUC | TPR | FPR |"
    assert lines[2] == "| LSTM, this release | 0.900 | 0.800 | 0.200 |"
    assert lines[3:] == [
        "| Mel Spectrogram - 2D CNN, the paper on MagnaTagATune | 0.894 | 0.827 | 0.173 |",
        "| Sample CNN - 1D CNN, the paper on MagnaTagATune | 0.880 | 0.812 | 0.187 |",
        "| LSTM, the paper on MagnaTagATune | 0.870 | 0.800 | 0.203 |",
    ]
