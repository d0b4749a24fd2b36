"""From a manifest to a release that is served, by the command line alone."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.cli.training import train
from app.lab.training.config import TrainConfig
from tests.corpora import write_corpus

RUNNER = CliRunner()
FAST = ["--base-channels", "2", "--crop-seconds", "0.5", "--batch-size", "4", "--epochs", "1", "--steps-per-epoch", "2"]


def test_train_makes_a_release_that_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(tmp_path / "store"))
    manifest = write_corpus(tmp_path, train=3, valid=2)
    trained = RUNNER.invoke(app, ["train", str(manifest), "--output", str(tmp_path / "run"), *FAST, "--release", "7"])
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
    measured = RUNNER.invoke(app, ["evaluate", "lrid_net/7", str(manifest), "--output", str(tmp_path / "measured")])
    assert measured.exit_code == 0, measured.output
    assert "| audio only | 6 |" in (tmp_path / "measured/evaluation.md").read_text(encoding="utf-8")
    options = ["--catalog-prior", "uniform", "--output", str(tmp_path / "uniform")]
    refused = RUNNER.invoke(app, ["evaluate", "lrid_net/7", str(manifest), *options])
    assert "class 'pt' needs a number over 0" in str(refused.exception), "it has seen three classes of eleven"


def test_options_of_train_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option of the command that is a setting of a training of the same name, with a value that is not its default."""
    told: list[TrainConfig] = []
    monkeypatch.setattr("app.lab.training.train.train", lambda config: told.append(config) or tmp_path)
    values = {
        "variant": "adr", "epochs": 3, "batch_size": 5, "crop_seconds": 2.5, "learning_rate": 0.25, "schedule": "cosine",
        "warmup_steps": 7, "steps_per_epoch": 9, "patience_epochs": 4, "audio_loss_weight": 0.75,
        "threads": 2, "precision": "fp32", "cache": tmp_path / "cache",
        "spectrogram_cache": True, "validate_items": 11, "init_from": tmp_path / "first.pt", "fresh_heads": True,
        "seed": 6, "device": "cpu", "resume": True,
    }  # fmt: skip
    options = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        options += [flag] if value is True else [flag, str(value)]
    done = RUNNER.invoke(app, ["train", "m.tsv", *options])
    assert done.exit_code == 0, done.output
    assert {name: getattr(told[0], name) for name in values} == values
    known = set(inspect.signature(train).parameters) & set(TrainConfig.__dataclass_fields__)
    assert known - set(values) == {"manifest", "output", "text_manifest", "augment"}, "augment: no spectrogram cache with it"
