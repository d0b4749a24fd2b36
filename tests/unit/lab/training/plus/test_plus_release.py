"""What training leaves becomes a release, calibrated, that says what it is."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.training.plus.conftest import LABELS

from app.domain import Metadata
from app.errors import ReleaseError
from app.families.contract import Temperatures, Thresholds
from app.families.lrid_net.config import ListenConfig, LridNetManifest, NetworkConfig, ReadConfig
from app.families.lrid_net.model import LridNetModel
from app.families.lrid_net.network import LridNet
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net_plus.model import LridNetPlusModel
from app.families.store import load_model
from app.lab.evaluation.calibrate import UNREACHABLE
from app.lab.evaluation.evaluate import EvaluationSet
from app.lab.training.corpus import Row
from app.lab.training.plus_audio import AudioConfig, HeardCorpus, fit_audio
from app.lab.training.plus_calibrate import calibrate_text, temperature_of_nothing
from app.lab.training.plus_data import Drawer, Shelf, draw_probabilities
from app.lab.training.plus_folds import HeldOut
from app.lab.training.plus_main import LACKING_ROWS, Recipe, answer_mix
from app.lab.training.plus_release import Parts, PlusReleaseConfig, make_plus_release
from app.lab.training.train_plus import PlusConfig, TextNet, predict


@pytest.fixture(scope="module")
def trunk() -> LridNetModel:
    torch.manual_seed(0)
    network = NetworkConfig(base_channels=1, stage_blocks=[1, 1, 1, 1], text_units=8, identify_units=8)
    read = ReadConfig(languages=list(langdetect_languages()))
    manifest = LridNetManifest(
        family="lrid_net", release="1", created=date(2025, 1, 1), labels=list(LABELS), sha256="0" * 64, training={},
        metrics={}, temperature=Temperatures(), thresholds=Thresholds(), listen=ListenConfig(window_seconds=2.0),
        read=read, network=network,
    )  # fmt: skip
    whole = LridNet(network, n_text=read.n_features, n_classes=len(LABELS))
    return LridNetModel(manifest, {n: t for n, t in whole.state_dict().items() if "num_batches" not in n})


def _parts(trunk: LridNetModel, text: TextNet) -> Parts:
    units = text.h[0][0].out_features  # type: ignore[index, union-attr]
    tensors = {name: tensor for name, tensor in trunk.network.state_dict().items() if "num_batches" not in name}
    return Parts(text, 180, trunk, tensors, torch.zeros(units, trunk.n_audio_features))


def _release(store: Path, manifest: Path, held_out: HeldOut) -> PlusReleaseConfig:
    valid = EvaluationSet("made", "Made rows.", manifest, splits=("valid",))
    return PlusReleaseConfig(
        store=store, release="1", held_out=held_out, held_out_note="Fitted on made rows.", figures=[valid],
        answer_mix={"en": 2, "fr": 1, "de": 1}, data="Made rows.", limits="Nearly all.",
    )  # fmt: skip


def test_training_and_serving_read_alike(
    trunk: LridNetModel,
    trained: TextNet,
    shelf: Shelf,
    config: PlusConfig,
    tmp_path: Path,
    manifest: Path,
    held_out: HeldOut,
) -> None:
    model = load_model(make_plus_release(_release(tmp_path, manifest, held_out), config, _parts(trunk, trained)))
    texts = [("Nachtzug", None, "Über alles"), (None, "La nuit", None), (None, None, "1984"), ("a", "b", "c")]
    logits = predict(trained, shelf, texts)
    temperature = model.manifest.temperature.text_only
    for text, expected in zip(texts, torch.softmax(logits / temperature, dim=1).numpy(), strict=True):
        found = model.identify(None, model.read(Metadata(*text))).mean
        np.testing.assert_allclose(found, expected, atol=5e-3)  # weights are stored in fp16


def test_a_release_explains_itself_and_keeps_quiet_on_audio(
    trunk: LridNetModel, trained: TextNet, config: PlusConfig, tmp_path: Path, manifest: Path, held_out: HeldOut
) -> None:
    place = make_plus_release(_release(tmp_path, manifest, held_out), config, _parts(trunk, trained))
    model = load_model(place)
    assert isinstance(model, LridNetPlusModel)
    assert model.manifest.training["class_prior"]["en"] == pytest.approx(0.5)
    assert model.manifest.metrics["text_only"]["made"]["weighted_f1"] > 0.9
    assert set(model.manifest.metrics["text_only"]) >= {"made, title only", "made, prior uniform"}
    features = np.random.default_rng(0).normal(size=(2, model.n_audio_features)).astype(np.float32)
    reading = model.read(Metadata(title="la nuit de toi"))
    np.testing.assert_allclose(model.identify(features, reading).mean, model.identify(None, reading).mean, atol=1e-6)
    alone = model.identify(features, None).mean
    assert alone.max() < model.manifest.thresholds.audio_only
    assert alone[0] == alone.max() == pytest.approx(0.5, abs=0.03), "audio that is not listened to: the class mix"
    card = (place / "CARD.md").read_text(encoding="utf-8")
    assert "| made, title only |" in card
    assert "Fitted on made rows." in card
    assert "does not listen" in card
    with pytest.raises(ReleaseError, match="releases never change"):
        make_plus_release(_release(tmp_path, manifest, held_out), config, _parts(trunk, trained))


def test_audio_may_be_trusted_without_touching_text(
    trunk: LridNetModel, trained: TextNet, config: PlusConfig, rows: list[Row], shelf: Shelf
) -> None:
    """Features that give the language away: trusted, they decide where there is no text; text alone stays as it was."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    features = rng.normal(size=(120, trunk.n_audio_features)).astype(np.float32)
    features[np.arange(120), labels] += 6.0
    heard = HeardCorpus(features, labels, np.zeros(trunk.n_audio_features, np.float32))
    drawer = Drawer(rows, draw_probabilities(rows, config.class_mix(), {}), config.habits)
    assert not fit_audio(trained, heard, drawer, shelf, AudioConfig(trust=0.0)).any()
    settings = AudioConfig(trust=0.9, steps=150, learning_rate=1e-2, batch_size=64)
    weight = fit_audio(trained, heard, drawer, shelf, settings)
    with torch.no_grad():
        nothing = trained.read(shelf.batch([(None, None, None)]))
        heard_alone = trained.identify(nothing.expand(120, -1), torch.from_numpy(features) @ weight.T)
        silent = trained.identify(nothing, torch.zeros(1, trunk.n_audio_features) @ weight.T)
    assert (heard_alone.argmax(dim=1).numpy() == labels).mean() > 0.8
    torch.testing.assert_close(silent, predict(trained, shelf, [(None, None, None)]))


def test_each_language_has_the_least_threshold_that_is_right_often_enough() -> None:
    """French is wrong under .8, German always right, English too rare for a threshold of its own."""
    confidence = np.concatenate([np.linspace(0.5, 0.99, 100), np.linspace(0.5, 0.99, 100), np.full(5, 0.9)])
    said = np.repeat([1, 2, 0], [100, 100, 5])
    probabilities = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(205), said] = confidence
    labels = np.where((said == 1) & (confidence < 0.8), 0, said)
    found = calibrate_text(HeldOut(labels, {"all fields": np.log(probabilities)}), np.zeros(3), ["en", "fr", "de"])
    assert set(found.by_language) == {"fr", "de"}
    assert found.by_language["de"] < 0.7 < found.by_language["fr"]
    precision, coverage, _ = found.answered["all fields"]
    assert precision >= 0.95
    assert 0.5 < coverage < 0.9
    assert found.modes["audio_only"].threshold == UNREACHABLE


def test_the_answer_to_nothing_is_calibrated_to_the_class_mix() -> None:
    mix = np.array([0.7, 0.2, 0.1])
    flat = np.sqrt(mix) / np.sqrt(mix).sum()
    assert temperature_of_nothing(flat, mix) == pytest.approx(0.5, rel=0.01)
    assert temperature_of_nothing(mix, mix) == pytest.approx(1.0, rel=0.01)


def test_a_class_without_sure_rows_has_the_share_of_a_few(manifest: Path, tmp_path: Path) -> None:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    unsure = tmp_path / "metadata.tsv"
    unsure.write_text("\n".join(line.replace("made", "guessed") if "\tde\t" in line else line for line in lines) + "\n")
    recipe = Recipe(
        metadata=unsure, output=tmp_path, store=tmp_path, release="1", sources=["made"], data="", limits="",
        text={"labels": LABELS, "class_counts": {"en": 4, "fr": 1, "de": 1}},
    )  # fmt: skip
    mix = answer_mix(recipe, recipe.config())
    en, fr = 0.5**0.75 * 0.5**0.25, 0.25**0.75 * 0.5**0.25
    de = LACKING_ROWS / (160 + 3)  # 80 sure rows of each other class in train and valid
    assert mix == pytest.approx({"en": en / (en + fr + de), "fr": fr / (en + fr + de), "de": de / (en + fr + de)})
