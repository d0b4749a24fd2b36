"""A release under a catalogue's prior: golden answers are its own, what it serves is corrected."""

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from app.domain import AUDIO, TEXT, Metadata, Reading, Track
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
    return Settings(model_store=store, device="cpu", precision="fp32", torch_threads=1, catalog_prior=prior, engine="torch")


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


def test_training_is_the_release_as_it_is(store: Path) -> None:
    assert Settings().catalog_prior == "training"
    assert not isinstance(load_release(settings_for(store, "training"), "lrid_net/1").model, UnderPrior)


def test_music4all_has_every_class_of_the_paper() -> None:
    assert set(MUSIC4ALL) == set(CODES)


def test_numpy_s_products_stay_on_their_thread(store: Path) -> None:
    """They run on the event loop: a second thread would have to be waited for."""
    with threadpool_limits(2, user_api="blas"):
        load_release(settings_for(store, "training"), "lrid_net/1")
        assert [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
