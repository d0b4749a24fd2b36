"""`lrid releases quantise`: how far 8 bits are from fp32, and what is written or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from app.cli import main as cli
from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.golden import Listen
from app.families.store import load_model, read_manifest
from app.lab.training.errors import CorpusError
from app.lab.training.publish import verify
from app.lab.training.quantise import QuantiseConfig, difference, quantise
from tests.corpora import write_corpus
from tests.releases import write_release

Change = Callable[[FloatArray], FloatArray]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), train=1, valid=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_release(tmp_path, listen={"window_seconds": 1.0})


def config(folder: Path, corpus: Path) -> QuantiseConfig:
    return QuantiseConfig(folder=folder, manifest=corpus, calibration_windows=2, compared_windows=4)


def engines(change: Change) -> Callable[[nn.Module, str], Listen]:
    """An int8 engine whose features are those of fp32, changed."""

    def make(listener: nn.Module, precision: str) -> Listen:
        def listen(windows: list[FloatArray]) -> FloatArray:
            with torch.inference_mode():
                features = listener(torch.from_numpy(np.stack(windows))).numpy()
            return change(features) if precision == "int8" else features

        return listen

    return make


def test_difference_by_hand() -> None:
    exact = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]], np.float32)
    rounded = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]], np.float32)
    found = difference(exact, rounded)
    assert (found.windows, found.top1) == (4, 0.75)
    assert found.mean_abs_dp == pytest.approx(0.4 / 12)
    assert found.largest_abs_dp == pytest.approx(0.1)
    assert not found.small_enough
    assert difference(exact, exact).small_enough


def test_the_block_is_written_and_the_rest_stays(folder: Path, corpus: Path) -> None:
    before = json.loads((folder / "manifest.json").read_text())
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    steps: list[int] = []
    found = quantise(config(folder, corpus), engines(lambda features: features), steps.append)
    assert {mode: (one.windows, one.top1, one.mean_abs_dp) for mode, one in found.items()} == {
        "audio_only": (4, 1.0, 0.0),
        "both": (4, 1.0, 0.0),
    }
    assert sum(steps) == 2 * (2 + 4)
    after = json.loads((folder / "manifest.json").read_text())
    block = after.pop("int8")
    before.pop("int8", None)
    assert after == before
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"} == files
    assert len(block["ranges"]) == 24, "every convolution but the first, and the two summands of four blocks"
    assert "split=train" in block["calibration"]
    assert "split=valid" in block["compared_on"]
    assert block["agreement"]["both"] == {"windows": 4, "top1": 1.0, "mean_abs_dp": 0.0}
    assert read_manifest(folder).int8 is not None
    assert verify(folder).worst_difference < 1e-3
    assert load_model(folder).listener.int8_ranges.keys() == block["ranges"].keys()


def test_answers_that_differ_are_refused_with_the_figures(folder: Path, corpus: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ReleaseError, match=r"nothing was written: audio_only: top-1 .*mean \|dp\| 0\.\d+.*4 windows; both:"):
        quantise(config(folder, corpus), engines(lambda features: -features))
    assert (folder / "manifest.json").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "weights.safetensors", "golden.json", "CARD.md"}


def test_rows_of_both_splits_are_needed(folder: Path, corpus: Path) -> None:
    lines = corpus.read_text(encoding="utf-8").splitlines()
    only_train = corpus.with_name("only-train.tsv")
    only_train.write_text("\n".join(line for line in lines if not line.endswith("\tvalid")), encoding="utf-8")
    with pytest.raises(CorpusError, match="no rows of split valid with audio"):
        quantise(config(folder, only_train), engines(lambda features: features))


def test_the_command_needs_the_extra(folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.serving.engine.importlib.util.find_spec", lambda name: None)
    options = ["--store", str(folder.parent.parent), "--calibration-windows", "1", "--compared-windows", "1"]
    done = CliRunner().invoke(cli.app, ["releases", "quantise", "lrid_net/1", str(corpus), *options])
    assert isinstance(done.exception, ReleaseError)
    assert "install the extra `openvino`" in done.exception.detail
