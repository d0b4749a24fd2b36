"""A release under a catalogue's prior: golden answers are its own, what it serves is corrected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from app.domain import AUDIO, TEXT, Metadata, Reading, Track
from app.errors import ReleaseError
from app.families.contract import Model
from app.families.prior import MUSIC4ALL, UnderPrior, corrected, prior_ratio
from app.families.store import load_model
from app.serving.loading import load_release
from app.settings import Settings
from tests.releases import CODES, write_release

TRAINED = {code: 1.0 + i for i, code in enumerate(CODES)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    write_release(store, training={"data": "none", "class_prior": TRAINED})
    return store


def settings_for(store: Path, prior: str) -> Settings:
    return Settings(model_store=store, device="cpu", precision="fp32", torch_threads=1, catalog_prior=prior)


def mix_file(folder: Path, **changes: float) -> str:
    path = folder / "mix.json"
    path.write_text(json.dumps(dict.fromkeys(CODES, 1.0) | changes), encoding="utf-8")
    return str(path)


def reading_of(model: Model, title: str) -> Reading:
    reading = model.inputs[TEXT].read(Track(None, Metadata(title=title)))
    assert reading is not None
    return reading


@pytest.mark.parametrize("prior", ["uniform", "music4all"])
def test_answers_are_corrected_after_the_golden_ones_were_replayed(store: Path, prior: str) -> None:
    model = load_release(settings_for(store, prior), "lrid_net/1").model
    raw = load_model(store / "lrid_net" / "1")
    assert raw.audio is not None
    features = {
        AUDIO: np.random.default_rng(0).normal(size=(3, raw.audio.listener.n_features)).astype(np.float32),
        TEXT: reading_of(raw, "La vie en rose").vector,
    }
    ratio = prior_ratio(prior, CODES, TRAINED)
    found, plain = (each.combine(features, frozenset({AUDIO, TEXT})) for each in (model, raw))
    np.testing.assert_array_equal(found.windows, corrected(plain.windows, ratio))
    np.testing.assert_array_equal(found.probabilities, corrected(plain.probabilities, ratio))
    assert np.abs(found.probabilities - plain.probabilities).max() > 0.02
    np.testing.assert_array_equal(reading_of(model, "La vie en rose").vector, features[TEXT])


def test_a_file_of_the_catalogues_own_counts(store: Path, tmp_path: Path) -> None:
    model = load_release(settings_for(store, mix_file(tmp_path, fr=1e6)), "lrid_net/1").model
    scores = model.combine({TEXT: reading_of(model, "La vie en rose").vector}, frozenset({TEXT}))
    assert CODES[int(scores.probabilities.argmax())] == "fr"


def test_training_is_the_release_as_it_is(store: Path) -> None:
    assert Settings().catalog_prior == "training"
    assert not isinstance(load_release(settings_for(store, "training"), "lrid_net/1").model, UnderPrior)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("[]", "JSON object"), ('{"en": 1}', "'pt' needs a number over 0"), ("{", "cannot be read")],
)
def test_a_bad_file_refuses_the_release_and_says_why(store: Path, tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "mix.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ReleaseError, match=message):
        load_release(settings_for(store, str(path)), "lrid_net/1")


def test_a_release_that_does_not_know_its_own_mix_is_not_corrected_but_refused(tmp_path: Path) -> None:
    write_release(tmp_path)
    with pytest.raises(ReleaseError, match="the release's prior"):
        load_release(settings_for(tmp_path, "uniform"), "lrid_net/1")


def test_music4all_has_every_class_of_the_paper() -> None:
    assert set(MUSIC4ALL) == set(CODES)


def test_numpy_s_products_stay_on_their_thread(store: Path) -> None:
    """They run on the event loop: a second thread would have to be waited for."""
    with threadpool_limits(2, user_api="blas"):
        load_release(settings_for(store, "training"), "lrid_net/1")
        assert [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
