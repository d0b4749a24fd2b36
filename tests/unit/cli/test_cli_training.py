"""From a catalogue to a release that is served, by the command line alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.cli.train import RECIPES, settings_of
from app.lab.errors import TrainingError
from app.lab.training.recipes import recipes
from tests.corpora import write_corpus

RUNNER = CliRunner()
FAST = {
    "network.base_channels": 4, "listen.window_seconds": 1, "crop_seconds": 0.5, "batch_size": 4, "epochs": 1,
    "steps_per_epoch": 2,
}  # fmt: skip
SET = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]


def test_train_makes_a_release_that_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LRID_ENGINE", "torch")
    catalogue = write_corpus(tmp_path, train=3, valid=2)
    trained = RUNNER.invoke(app, ["train", str(catalogue), "--output", str(tmp_path / "run"), *SET, "--release", "7"])
    assert trained.exit_code == 0, trained.output
    assert {path.name for path in (tmp_path / "store/lrid_net/7").iterdir()} == {
        "manifest.json",
        "weights.safetensors",
        "golden.json",
        "CARD.md",
    }
    assert "lrid_net/7" in RUNNER.invoke(app, ["releases", "list"]).output
    verified = RUNNER.invoke(app, ["releases", "verify"])
    assert (verified.exit_code, verified.output.strip()) == (0, "lrid_net/7: good")
    measured = RUNNER.invoke(app, ["evaluate", "lrid_net/7", str(catalogue), "--output", str(tmp_path / "measured")])
    assert measured.exit_code == 0, measured.output
    assert "| audio only | 6 |" in (tmp_path / "measured/evaluation.md").read_text(encoding="utf-8")
    options = ["--catalog-prior", "uniform", "--output", str(tmp_path / "uniform")]
    refused = RUNNER.invoke(app, ["evaluate", "lrid_net/7", str(catalogue), *options])
    assert "class 'pt' needs a number over 0" in str(refused.exception), "it has seen three classes of eleven"


def test_settings_come_from_a_file_and_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"epochs": 5, "network": {"base_channels": 8, "text_units": 3}}), encoding="utf-8")
    given = ["epochs=7", "network.base_channels=16", "variant=tdr", "resume=true", "init_from=runs/best.pt"]
    assert settings_of(file, given) == {
        "epochs": 7,
        "network": {"base_channels": 16, "text_units": 3},
        "variant": "tdr",
        "resume": True,
        "init_from": "runs/best.pt",
    }


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--set 'epochs': expected key=value, such as epochs=3"):
        settings_of(None, ["epochs"])
    with pytest.raises(TrainingError, match=r"--config .*gone\.json cannot be read"):
        settings_of(tmp_path / "gone.json", None)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(TrainingError, match=r"--config .*list\.json holds no JSON object of settings"):
        settings_of(tmp_path / "list.json", None)
    with pytest.raises(TrainingError, match=r"--set 'epochs\.x=1': epochs has a value already"):
        settings_of(None, ["epochs=1", "epochs.x=1"])
    refused = RUNNER.invoke(app, ["train", "songs.tsv", "--set", "epoks=3"])
    assert "setting epoks: Extra inputs are not permitted; settings of lrid_net: catalogue" in str(refused.exception)


def test_the_help_names_every_recipe_and_a_wrong_value_its_setting_alone() -> None:
    assert RECIPES.split(", ") == list(recipes())
    refused = RUNNER.invoke(app, ["train", "songs.tsv", "--set", "epochs=many"])
    assert str(refused.exception).startswith("setting epochs: Input should be a valid integer")
    assert "settings of" not in str(refused.exception)


def test_a_recipe_without_variants_is_refused(tmp_path: Path) -> None:
    refused = RUNNER.invoke(app, ["variants", str(write_corpus(tmp_path, 1, 1)), "--recipe", "reader"])
    assert refused.exit_code == 2
    assert "lrid_net and multimodal have" in " ".join(refused.output.replace("│", " ").split())
