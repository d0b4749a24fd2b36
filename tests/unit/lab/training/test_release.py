"""Checkpoint → release → served: everything real but the size."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.errors import ReleaseError
from app.families.golden import load_golden
from app.families.golden import replay as replay_golden
from app.families.lrid_net.config import LridNetManifest
from app.families.prior import under_prior
from app.families.store import list_releases, load_model
from app.lab.errors import CheckpointError, CorpusError
from app.lab.evaluation.answers import EvaluationSet, answer, read_inputs
from app.lab.evaluation.evaluate import evaluate, measure
from app.lab.evaluation.metrics import expected_calibration_error
from app.lab.features import FeatureExtractor
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.loop import Recipe, train
from app.lab.training.recipe import Draft
from app.lab.training.recipes import draft_of, recipe_of
from app.lab.training.release import ReleaseConfig, make_release, verify
from tests.corpora import tiny_training, write_corpus


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    settings = tiny_training(write_corpus(folder, train=4, valid=8), folder / "run")
    recipe = recipe_of("lrid_net", settings | {"epochs": 3, "steps_per_epoch": 4})
    assert isinstance(recipe, Recipe)
    return train(recipe)


@pytest.fixture(scope="module")
def draft(best: Path) -> Draft:
    return draft_of(best)[0]


@pytest.fixture(scope="module")
def release_config(best: Path) -> ReleaseConfig:
    folder = best.parents[1]
    return ReleaseConfig(
        store=folder / "store",
        release="1",
        calibration=EvaluationSet(folder / "manifest.tsv", ("valid",)),
        data="Tones of three pitches.",
        limits="Anything that is not a tone.",
        settings=draft_of(best)[1],
    )


def rows_of(config: ReleaseConfig) -> EvaluationSet:
    assert config.calibration is not None
    return config.calibration


@pytest.fixture(scope="module")
def made(draft: Draft, release_config: ReleaseConfig) -> Path:
    return make_release(draft, release_config)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store" / "lrid_net" / "1"))


def test_a_release_verifies_loads_and_replays(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "CARD.md",
        "golden.json",
        "manifest.json",
        "weights.safetensors",
    ]
    assert verify(made) < 1e-5
    model = load_model(made)
    assert model.audio is not None
    golden = load_golden(made / "golden.json")
    assert len(golden.cases) >= 4
    assert replay_golden(model, golden, FeatureExtractor(model.audio).windows, "fp32") < 1e-5
    store = made.parent.parent
    assert list_releases(store) == ["lrid_net/1"]
    assert not list(store.glob(".making-*"))


def test_golden_covers_every_mix_of_modalities(made: Path) -> None:
    cases = load_golden(made / "golden.json").cases
    mixes = {(case.audio is not None, bool(case.track.metadata.fields)) for case in cases}
    assert mixes == {(True, True), (True, False), (False, True)}
    assert all(abs(sum(case.probabilities) - 1) < 1e-4 for case in cases)


def test_weights_are_half_precision_but_for_norms(made: Path) -> None:
    tensors = load_file(made / "weights.safetensors")
    assert {tensor.dtype for name, tensor in tensors.items() if tensor.dim() > 1} == {torch.float16}
    assert {tensor.dtype for name, tensor in tensors.items() if "running" in name} == {torch.float32}
    assert not [name for name in tensors if "num_batches" in name]


def test_the_manifest_says_how_it_was_made(made: Path) -> None:
    manifest = load_model(made).manifest
    assert [label.code for label in manifest.labels] == ["en", "fr", "ja"]
    assert manifest.training["variant"] == "atdr"
    assert sum(manifest.training["class_prior"].values()) == pytest.approx(1, abs=1e-3)
    assert set(manifest.metrics) == {"both", "audio_only", "text_only"}
    assert manifest.metrics["both"]["validation"]["rows"] == 24
    assert manifest.training["settings"]["network"]["base_channels"] == 4
    assert 1 <= manifest.training["settings"]["epochs_trained"] <= 3
    assert str(made.parents[3]) not in (made / "manifest.json").read_text()  # no paths of the machine it was made on


def test_the_card_carries_figures_and_limits(made: Path) -> None:
    card = (made / "CARD.md").read_text(encoding="utf-8")
    for words in (
        "Tones of three pitches.",
        "Anything that is not a tone.",
        "### validation\nsplit=valid of the calibration catalogue",
        "| audio only |",
    ):
        assert words in card


def test_rows_of_another_class_mix_are_measured_as_they_would_be_served(
    release_config: ReleaseConfig, made: Path, tmp_path: Path
) -> None:
    """`catalog_prior` is what LRID_CATALOG_PRIOR is to serving: the same code, the same answers."""
    mix = tmp_path / "mix.json"
    mix.write_text(json.dumps({"en": 1, "fr": 1, "ja": 98}), encoding="utf-8")
    rows = replace(rows_of(release_config), splits=("test",), catalog_prior=str(mix))
    found = evaluate(made, rows, tmp_path / "measured")["audio_only"]
    plain = load_model(made)
    assert plain.audio is not None
    inputs = read_inputs(plain, rows.rows(["en", "fr", "ja"]), FeatureExtractor(plain.audio), Progress())
    served = answer(under_prior(plain, str(mix)), inputs)["audio_only"]
    assert found.ece == pytest.approx(expected_calibration_error(served.labels, served.probabilities), abs=1e-4)
    assert found.recall["ja"] == 1
    own = answer(plain, inputs)["audio_only"]
    assert not np.allclose(own.probabilities, served.probabilities, atol=0.05), "the mix says something"
    written = json.loads((tmp_path / "measured/evaluation.json").read_text(encoding="utf-8"))
    assert written["catalog_prior"] == str(mix)
    assert "under the class mix" in (tmp_path / "measured/evaluation.md").read_text(encoding="utf-8")
    with pytest.raises(ReleaseError, match="give training, uniform, music4all or a JSON file"):
        evaluate(made, replace(rows, catalog_prior="unifrom"), tmp_path / "measured")


def test_what_was_published_is_never_overwritten(draft: Draft, release_config: ReleaseConfig, made: Path) -> None:
    before = (made / "weights.safetensors").read_bytes()
    with pytest.raises(ReleaseError, match="releases never change"):
        make_release(draft, release_config)
    assert (made / "weights.safetensors").read_bytes() == before


def test_a_failed_making_leaves_nothing_behind(draft: Draft, release_config: ReleaseConfig, tmp_path: Path) -> None:
    nowhere = replace(rows_of(release_config), splits=("nowhere",))
    with pytest.raises(CorpusError, match="no rows of split nowhere"):
        make_release(draft, replace(release_config, store=tmp_path / "store", calibration=nowhere))
    assert not list((tmp_path / "store").rglob("*")) if (tmp_path / "store").exists() else True


def test_a_recipe_may_calibrate_itself(draft: Draft, release_config: ReleaseConfig, tmp_path: Path) -> None:
    assert isinstance(draft.manifest, LridNetManifest)
    thresholds = draft.manifest.thresholds.model_copy(update={"both": 0.25})
    own = replace(draft, calibrated=True, manifest=draft.manifest.model_copy(update={"thresholds": thresholds}))
    folder = make_release(replace(own, notes={"How it stops": "Never."}), replace(release_config, store=tmp_path / "store"))
    made = load_model(folder).manifest
    assert isinstance(made, LridNetManifest)
    assert made.thresholds == thresholds
    text = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "## How it stops\n\nNever." in text
    assert "## When it answers" not in text


def test_a_checkpoint_with_nan_is_refused(best: Path, tmp_path: Path) -> None:
    stored = checkpoint.load(best)
    stored["network"]["g.0.0.weight"][0, 0] = float("nan")
    checkpoint.save(tmp_path / "nan.pt", stored)
    with pytest.raises(CheckpointError, match=r"'g\.0\.0\.weight' holds NaN"):
        draft_of(tmp_path / "nan.pt")


def test_a_release_without_a_card_is_refused(copy: Path) -> None:
    (copy / "CARD.md").unlink()
    with pytest.raises(ReleaseError, match=r"CARD\.md is missing"):
        verify(copy)


def test_evaluate_writes_json_and_markdown(made: Path, release_config: ReleaseConfig, tmp_path: Path) -> None:
    validation = replace(rows_of(release_config), cache=tmp_path / "cache")
    on_validation = measure(made, validation).cases
    kept_apart = replace(validation, splits=("test",))
    evaluation = evaluate(made, kept_apart, tmp_path / "out")
    assert measure(made, kept_apart).cases == evaluation
    assert {mode: case.rows for mode, case in evaluation.items()} == {"both": 6, "audio_only": 6, "text_only": 6}
    said = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert said["cases"]["both"]["accuracy"] == pytest.approx(evaluation["both"].accuracy)
    assert np.sum(said["cases"]["both"]["confusion"]) == 6
    text = (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")
    assert "| text only | 6 |" in text
    manifest = load_model(made).manifest
    assert manifest.metrics["both"]["validation"]["accuracy"] == pytest.approx(on_validation["both"].accuracy, abs=1e-4)
