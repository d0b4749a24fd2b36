from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from langdetect.detector import Detector
from langdetect.detector_factory import DetectorFactory

from app.families.lrid_net.profiles import PROFILES
from app.families.lrid_net.read import langdetect_languages
from app.families.lrid_net_plus.config import default_scripts
from app.families.lrid_net_plus.counted import Explanations, ScriptShares, views


@pytest.fixture(scope="module")
def explanations() -> Explanations:
    return Explanations(langdetect_languages(), 0.5 / 10_000)


@pytest.fixture(scope="module")
def factory() -> DetectorFactory:
    factory = DetectorFactory()
    factory.load_json_profile([(PROFILES / code).read_text(encoding="utf-8") for code in langdetect_languages()])
    return factory


@pytest.mark.parametrize("text", ["la vie ne vaut rien", "ty i ja", "ночь над рекой", "桜の花", "sommaren är kort"])
def test_the_sum_over_all_ngrams_is_langdetects(explanations: Explanations, factory: DetectorFactory, text: str) -> None:
    """Each n-gram that langdetect would draw from, once, with its smoothing and its profiles."""
    detector: Detector = factory.create()
    detector.append(text)
    detector.cleaning_text()
    ngrams = detector._extract_ngrams()
    expected = np.sum([np.log(np.array(factory.word_lang_prob_map[g]) + 0.5 / 10_000) for g in ngrams], axis=0)
    found, n_known = explanations(["", text])
    assert n_known.tolist() == [0, len(ngrams)]
    assert not found[0].any()
    np.testing.assert_allclose(found[1], expected, rtol=1e-4)


def test_nothing_known_explains_nothing(explanations: Explanations) -> None:
    found, n_known = explanations(["12 34"])
    assert n_known.tolist() == [0]
    assert not found.any()
    assert not views(found, n_known).any()


def test_views_are_a_centred_mean_and_a_posterior() -> None:
    evidence = np.array([[-4.0, -8.0, -12.0]], np.float32)
    found = views(evidence, np.array([4.0], np.float32))[0]
    np.testing.assert_allclose(found[:3], [1.0, 0.0, -1.0])
    powers = np.exp([-2.0, -4.0, -6.0])
    np.testing.assert_allclose(found[3:], powers / powers.sum(), rtol=1e-5)


def test_scripts_are_shares_of_the_characters() -> None:
    scripts = default_scripts()
    shares = ScriptShares(scripts)(["abc", "né 4 夢"])[1]  # six characters, two of them spaces
    by_name = dict(zip([script.name for script in scripts], shares, strict=True))
    expected = {"latin": 1 / 6, "latin-accented": 1 / 6, "digit": 1 / 6, "han": 1 / 6}
    assert {name: pytest.approx(share) for name, share in by_name.items() if share} == expected


def test_what_is_of_no_script_counts_for_none() -> None:
    assert not ScriptShares(default_scripts())(["\U0001f3b5\U0010ffff"]).any()


def test_ranges_of_scripts_do_not_overlap() -> None:
    spans = sorted(span for script in default_scripts() for span in script.ranges)
    assert all(low <= high for low, high in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
