from itertools import pairwise

import numpy as np
import pytest
from langdetect.detector import Detector
from langdetect.detector_factory import DetectorFactory

from app.domain import FloatArray
from app.families.parts.ngrams.config import NgramConfig, default_scripts
from app.families.parts.ngrams.fields import FieldReader, code_points, ngram_keys, normalised, owners
from app.families.parts.ngrams.loops import share_scripts, weigh
from app.families.parts.profiles import PROFILES, Profiles, langdetect_languages


@pytest.fixture(scope="module")
def fields() -> FieldReader:
    return FieldReader(NgramConfig(class_mix={"a": 0.5, "b": 0.5}, languages=list(langdetect_languages())))


@pytest.fixture(scope="module")
def factory() -> DetectorFactory:
    factory = DetectorFactory()
    factory.load_json_profile([(PROFILES / code).read_text(encoding="utf-8") for code in langdetect_languages()])
    return factory


@pytest.mark.parametrize(
    "text", ["la vie ne vaut rien", "ty i ja", "ночь над рекой", "桜の花", "sommaren är kort", "Nghìn năm", "Ⓐ🅐 NO"]
)
def test_the_sum_over_all_ngrams_is_langdetects(fields: FieldReader, factory: DetectorFactory, text: str) -> None:
    """Each n-gram that langdetect would draw from, once, with its smoothing and its profiles."""
    detector: Detector = factory.create()
    detector.append(normalised(text, 200))
    detector.cleaning_text()
    ngrams = detector._extract_ngrams()
    expected = np.sum([np.log(np.array(factory.word_lang_prob_map[g]) + 0.5 / 10_000) for g in ngrams], axis=0)
    found, n_known = fields.explained(text, 200)
    assert n_known == len(ngrams)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_every_ngram_of_the_profiles_is_found_in_its_row(fields: FieldReader) -> None:
    known = list(Profiles(langdetect_languages()).rows)
    keys = ngram_keys(known)
    assert len(set(keys.tolist())) == len(known)
    held, rows, *_ = fields.tables
    found = dict(zip(held[held >= 0].tolist(), rows[held >= 0].tolist(), strict=True))
    assert found == {key: row for row, key in enumerate(keys.tolist())}


def test_nothing_known_explains_nothing(fields: FieldReader) -> None:
    found, n_known = fields.explained("12 34", 200)
    assert n_known == 0
    assert not found.any()
    mean, posterior = np.ones((2, len(found)), np.float32)
    weigh(found, n_known, mean, posterior)
    assert not mean.any()
    assert not posterior.any()


def test_views_are_a_centred_mean_and_a_posterior() -> None:
    mean, posterior = np.zeros((2, 3), np.float32)
    weigh(np.array([-4.0, -8.0, -12.0], np.float32), 4.0, mean, posterior)
    np.testing.assert_allclose(mean, [1.0, 0.0, -1.0])
    powers = np.exp([-2.0, -4.0, -6.0])
    np.testing.assert_allclose(posterior, powers / powers.sum(), rtol=1e-5)


def shares_of(text: str) -> FloatArray:
    scripts = default_scripts()
    shares = np.zeros(len(scripts), np.float32)
    share_scripts(code_points([text])[0], owners(scripts), shares)
    return shares


def test_scripts_are_shares_of_the_characters() -> None:
    shares = shares_of("né 4 夢")  # six characters, two of them spaces
    by_name = dict(zip([script.name for script in default_scripts()], shares, strict=True))
    expected = {"latin": 1 / 6, "latin-accented": 1 / 6, "digit": 1 / 6, "han": 1 / 6}
    assert {name: pytest.approx(share) for name, share in by_name.items() if share} == expected


def test_what_is_of_no_script_counts_for_none() -> None:
    assert not shares_of("\U0001f3b5\U0010ffff").any()


def test_ranges_of_scripts_do_not_overlap() -> None:
    spans = sorted(span for script in default_scripts() for span in script.ranges)
    assert all(low <= high for low, high in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
