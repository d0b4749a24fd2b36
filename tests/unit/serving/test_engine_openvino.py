"""The trunk by OpenVINO. Where the extra is not installed, only what is said then is tested."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from app.domain import FloatArray
from app.serving import engine
from app.serving.engine import Engine, EngineChoice, choose
from tests.releases import TINY, listen_with, tiny_model

INSTALLED = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not INSTALLED, reason="the extra `openvino` is not installed")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def noise(n: int, n_samples: int) -> list[FloatArray]:
    rng = np.random.default_rng(5)
    return [(rng.standard_normal(n_samples) * 0.1).astype(np.float32) for _ in range(n)]


def test_asked_for_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="extra `openvino`"):
        choose(device="cpu", precision="fp32", threads=2, backend="openvino")
    assert choose(device="cpu", precision="fp32", threads=2).backend == "torch"


@pytest.mark.parametrize(("asked", "runs"), [("auto", "openvino"), ("openvino", "openvino"), ("torch", "torch")])
def test_who_runs_it_when_it_is_there(monkeypatch: pytest.MonkeyPatch, asked: str, runs: str) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    choice = choose(device="cpu", precision="fp32", threads=2, backend=asked)
    assert (choice.backend, choice.precision) == (runs, "fp32")


@needs_openvino
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 3e-2)])
def test_agrees_with_the_network_alone_and_in_company(precision: engine.Precision, tolerance: float) -> None:
    model = tiny_model(network=TINY | {"base_channels": 16})
    windows = noise(3, model.window_samples)
    expected = listen_with(model)(windows)
    by_openvino = Engine(model.listener, EngineChoice("cpu", precision, 2, "openvino"))
    by_openvino.settle(model.window_samples)
    given = by_openvino.listen(windows)
    assert np.linalg.norm(given - expected) < tolerance * np.linalg.norm(expected)
    for window, row in zip(windows, given, strict=True):
        assert np.array_equal(by_openvino.listen([window])[0], row)
