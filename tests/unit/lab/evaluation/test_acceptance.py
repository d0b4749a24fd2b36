"""mAP, and precision, recall and F1 at tuned thresholds, against figures counted by hand."""

import numpy as np
import pytest

from app.lab.evaluation.acceptance import acceptance, acceptance_table, means, tuned_thresholds

LABELS = np.array([0, 0, 0, 1, 1])
FIRST = np.array([0.9, 0.8, 0.3, 0.4, 0.1], np.float32)  # P(class 0): ranked 0 0 1 0 1
BOTH = np.stack([FIRST, 1 - FIRST, np.zeros(5, np.float32)], axis=1)


def test_thresholds_give_the_best_f1_of_each_class() -> None:
    found = tuned_thresholds(LABELS, BOTH)
    assert found[0] == pytest.approx((0.3 + 0.1) / 2)  # P 3/4, R 1: F .857; from 0.8 on P 1, R 2/3: F .8
    assert found[1] == pytest.approx((0.6 + 0.2) / 2)  # P 2/3, R 1: F .8; from 0.9 on P 1, R 1/2
    assert found[2] == 0.5  # no track


def test_figures_are_those_counted_by_hand() -> None:
    found = acceptance(LABELS, BOTH, tuned_thresholds(LABELS, BOTH))
    assert found["P"][:2] == pytest.approx([3 / 4, 2 / 3])
    assert found["R"][:2] == pytest.approx([1, 1])
    assert found["F"][:2] == pytest.approx([6 / 7, 4 / 5])
    assert found["mAP"][:2] == pytest.approx([(1 + 1 + 3 / 4) / 3, (1 + 2 / 3) / 2])
    assert np.isnan([column[2] for column in found.values()]).all()
    assert means(found, ["en", "fr", "ja"])["F"] == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert means(found, ["en", "others", "ja"])["F"] == pytest.approx(6 / 7)
    assert np.isnan(list(means(found, ["others", "others", "ja"]).values())).all()


def test_the_table_has_a_row_for_each_language_and_the_mean() -> None:
    lines = acceptance_table({"Audio": acceptance(LABELS, BOTH, np.full(3, 0.5))}, ["en", "fr", "ja"]).splitlines()
    assert lines[0] == "| language | Audio P | Audio R | Audio F | Audio mAP |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| en", "| fr", "| ja", "| mean"]
    assert lines[4] == "| ja |  |  |  |  |"
