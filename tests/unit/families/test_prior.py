import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.prior import MUSIC4ALL, corrected, prior_ratio

CODES = list(MUSIC4ALL)
TRAINED = {code: 1.0 + i for i, code in enumerate(CODES)}


def test_training_changes_nothing() -> None:
    p = np.array([0.7, 0.2, 0.1], np.float32)
    np.testing.assert_allclose(corrected(p, prior_ratio("training", ["a", "b", "c"], {"a": 1, "b": 2, "c": 3})), p)


def test_bayes_by_hand() -> None:
    """Trained on 1 : 1, asked in a catalogue of 9 : 1: even evidence gives .9."""
    ratio = prior_ratio("uniform", ["a", "b"], {"a": 1, "b": 9})
    np.testing.assert_allclose(corrected(np.array([0.5, 0.5], np.float32), ratio), [0.9, 0.1], rtol=1e-5)


def test_the_training_mix_itself_becomes_the_catalogues() -> None:
    """An answer that knows nothing but the training's class mix becomes the catalogue's."""
    trained = np.array([TRAINED[code] for code in CODES], np.float32)
    found = corrected(trained / trained.sum(), prior_ratio("music4all", CODES, TRAINED))
    counts = np.array(list(MUSIC4ALL.values()))
    np.testing.assert_allclose(found, counts / counts.sum(), rtol=1e-4)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mix.json"
    path.write_text(json.dumps({"a": 80, "b": 20}), encoding="utf-8")
    ratio = prior_ratio(str(path), ["b", "a"], {"a": 1, "b": 1})
    np.testing.assert_allclose(corrected(np.array([[0.5, 0.5]], np.float32), ratio), [[0.2, 0.8]], rtol=1e-5)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=11, max_size=11).filter(lambda p: sum(p) > 0.1))
def test_answers_stay_distributions_and_the_way_back_leads_back(values: list[float]) -> None:
    p: FloatArray = np.array(values, np.float32) / np.float32(sum(values))
    ratio = prior_ratio("music4all", CODES, TRAINED)
    there = corrected(p, ratio)
    assert there.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(corrected(there, np.asarray(1 / ratio, np.float32)), p, atol=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "JSON object"),
        ("{", "cannot be read"),
        ('{"a": 1}', "'b' needs a number over 0, has None"),
        ('{"a": 1, "b": 0}', "'b' needs a number over 0, has 0"),
        ('{"a": 1, "b": true}', "'b' needs a number over 0, has True"),
        ('{"a": 1, "b": "2"}', "'b' needs a number over 0, has '2'"),
        ('{"a": 1, "b": 2, "c": 3}', "'c' is no class"),
    ],
)
def test_what_is_no_class_mix_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mix.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ReleaseError, match=message):
        prior_ratio(str(path), ["a", "b"], {"a": 1, "b": 1})


def test_a_release_without_a_prior_is_refused() -> None:
    with pytest.raises(ReleaseError, match="the release's prior"):
        prior_ratio("uniform", ["a", "b"], {})


def test_music4all_needs_its_classes() -> None:
    with pytest.raises(ReleaseError, match="is no class"):
        prior_ratio("music4all", ["en", "fr"], {"en": 1, "fr": 1})
