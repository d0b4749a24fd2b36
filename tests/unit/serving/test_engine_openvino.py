"""The trunk by OpenVINO. Where the extra is not installed, only what is said then is tested."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.lrid_net.quantised import measured_ranges
from app.families.store import load_model
from app.serving import engine
from app.serving.engine import Engine, EngineChoice, choose
from app.serving.loading import load_release
from app.serving.memory import release_memory
from app.settings import Settings
from tests.releases import TINY, edit_manifest, golden_for, listen_with, tiny_model, write_release

BLOCKS_OF_ALL_KINDS = TINY | {"base_channels": 16, "stage_blocks": [2, 1, 1, 1]}  # one without a projection
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


@pytest.mark.parametrize(("installed", "backend"), [(False, "auto"), (True, "torch")])
def test_int8_where_nothing_runs_it(monkeypatch: pytest.MonkeyPatch, installed: bool, backend: str) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object() if installed else None)
    with pytest.raises(ValueError, match=r"install the extra `openvino` and use device=cpu and engine=auto"):
        choose(device="cpu", precision="int8", threads=2, backend=backend)


def test_int8_is_not_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="only on a CPU"):
        choose(device="auto", precision="int8", threads=2)
    assert choose(device="cpu", precision="int8", threads=2) == EngineChoice("cpu", "int8", 2, "openvino")


def test_auto_is_never_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    for faster in ("fp32", "bf16"):
        monkeypatch.setattr(engine, "_faster_on_cpu", lambda faster=faster: faster)
        assert choose(device="cpu", precision="auto", threads=2).precision == faster


def test_int8_of_a_release_that_was_not_quantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    write_release(tmp_path)
    with pytest.raises(ReleaseError, match="lrid releases quantise"):
        load_release(Settings(model_store=tmp_path, device="cpu", precision="int8"), "lrid_net/1")


@needs_openvino
def test_int8_runs_in_8_bits_alone_and_in_company() -> None:
    model = tiny_model(network=BLOCKS_OF_ALL_KINDS)
    windows = noise(3, model.window_samples)
    with measured_ranges(model.network.f) as ranges:
        expected = listen_with(model)(windows)
    model.listener.int8_ranges = {name: ranges[name] for name in ranges if name != "conv1"}
    in_8_bits = Engine(model.listener, EngineChoice("cpu", "int8", 2, "openvino"))
    in_8_bits.settle(model.window_samples)
    given = in_8_bits.listen(windows)
    apart = np.linalg.norm(given - expected) / np.linalg.norm(expected)
    assert 1e-4 < apart < 5e-2
    for window, row in zip(windows, given, strict=True):
        assert np.array_equal(in_8_bits.listen([window])[0], row)
    layers = [node.get_rt_info() for node in in_8_bits._listener.trunk._compiled.get_runtime_model().get_ops()]
    convolutions = [info for info in layers if info["layerType"].astype(str) == "Convolution"]
    precisions = [info["runtimePrecision"].astype(str) for info in convolutions]
    assert len(precisions) == 20
    assert sum(precision in {"u8", "i8"} for precision in precisions) == 19, "all but the first"


@needs_openvino
def test_a_quantised_release_proves_itself_in_int8(tmp_path: Path) -> None:
    folder = write_release(tmp_path)
    model = load_model(folder)
    with measured_ranges(model.network.f) as ranges:
        golden_for(model)
    agreement = {"both": {"windows": 1, "top1": 1.0, "mean_abs_dp": 0.0}}
    block = {"ranges": dict(ranges), "calibration": "golden.json", "compared_on": "golden.json", "agreement": agreement}
    edit_manifest(folder, lambda fields: fields.update(int8=block))
    settings = Settings(model_store=tmp_path, device="cpu", precision="int8")
    assert load_release(settings, "lrid_net/1").engine.choice.precision == "int8"
    edit_manifest(folder, lambda fields: fields["int8"]["ranges"].update({"layer1.0.conv2": (0.0, 1e-3)}))
    with pytest.raises(ReleaseError, match="in int8, allowed"):
        load_release(settings, "lrid_net/1")


@needs_openvino
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 3e-2)])
def test_agrees_with_the_network_alone_and_in_company(precision: engine.Precision, tolerance: float) -> None:
    model = tiny_model(network=BLOCKS_OF_ALL_KINDS)
    windows = noise(3, model.window_samples)
    expected = listen_with(model)(windows)
    by_openvino = Engine(model.listener, EngineChoice("cpu", precision, 2, "openvino"))
    by_openvino.settle(model.window_samples)
    given = by_openvino.listen(windows)
    assert np.linalg.norm(given - expected) < tolerance * np.linalg.norm(expected)
    for window, row in zip(windows, given, strict=True):
        assert np.array_equal(by_openvino.listen([window])[0], row)


@needs_openvino
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere freed memory need not go back to the system")
def test_a_replaced_engine_leaves_no_memory_behind() -> None:
    """What a trace by torch keeps, some 20 MB each time, depends on the number of layers and not on their width."""
    model = tiny_model(network=TINY | {"stage_blocks": [3, 4, 6, 3]})
    windows = noise(2, model.window_samples)
    at_rest_mb = []
    for _ in range(8):
        Engine(model.listener, EngineChoice("cpu", "fp32", 2, "openvino")).listen(windows)
        release_memory()
        at_rest_mb.append(psutil.Process().memory_info().rss / 1e6)
    assert at_rest_mb[-1] - at_rest_mb[2] < 25, "of five engines"


@needs_openvino
def test_a_trunk_that_is_not_folded_is_refused() -> None:
    listener = tiny_model().listener
    with pytest.raises(TypeError, match="a folded trunk has no BatchNorm2d"):
        listener.by_openvino("fp32", 1)
