"""From a manifest to a release that is served, by the command line alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
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
    grown = RUNNER.invoke(app, ["grow", str(tmp_path / "run/best.pt"), str(tmp_path / "grown.pt"), "--base-channels", "4"])
    assert grown.exit_code == 0, grown.output
