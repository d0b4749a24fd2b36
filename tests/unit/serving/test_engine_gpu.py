"""The same engine on a GPU. Skipped without one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from app.families.lrid_net.config import ListenConfig, NetworkConfig
from app.families.lrid_net.fused import FusedResNet
from app.families.lrid_net.listen import Listener, LogMel, ResNet
from app.serving.engine import Engine, EngineChoice, choose
from app.serving.pipeline import Pipeline

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def listener() -> Listener:
    torch.manual_seed(0)
    return Listener(LogMel(ListenConfig()), ResNet(NetworkConfig(base_channels=16))).eval()


@pytest.fixture(scope="module")
def windows() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(661_500)).astype(np.float32) for _ in range(5)]


def test_auto_takes_the_gpu() -> None:
    choice = choose(device="auto", precision="auto", threads=0)
    assert choice.device == "cuda"
    assert choice.batch_size > 1


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 5e-2), ("fp16", 2e-2)])
def test_features_are_the_cpus(
    listener: Listener, windows: list[np.ndarray], precision: str, tolerance: float, captured: bool
) -> None:
    expected = Engine(listener, EngineChoice("cpu", "fp32", 1)).listen(windows)
    engine = Engine(listener, EngineChoice("cuda", precision, 32))
    if captured:
        engine.settle(len(windows[0]))
    assert engine.captured == captured
    given = engine.listen(windows)
    assert given.shape == expected.shape
    assert np.abs(given - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("fused", [False, True])
@torch.inference_mode()
def test_captured_passes_answer_as_plain_ones(listener: Listener, windows: list[np.ndarray], fused: bool) -> None:
    """Batch after batch, of more parts than there are slots: nothing is taken before it is copied, nor written over."""
    plain = Engine(listener, EngineChoice("cuda", "bf16", 32))
    taken = plain._listener.fused() if fused else plain._listener
    assert isinstance(taken.trunk, FusedResNet) == fused
    pipeline = Pipeline(taken, len(windows[0]), torch.device("cuda"), sizes=(1, 2, 4))
    for n in (1, 2, 3, 5, 11, 21, 4, 1):
        batch = [windows[i % 5] * np.float32(1 - 0.01 * i) for i in range(n)]
        expected, given = np.concatenate([plain.listen([window]) for window in batch]), pipeline(batch)
        assert np.abs(given - expected).max() <= 0.03 * np.abs(expected).max()


def test_passes_can_be_captured_while_another_engine_listens(listener: Listener, windows: list[np.ndarray]) -> None:
    """A release is loaded while the one before it goes on serving."""
    serving = Engine(listener, EngineChoice("cuda", "bf16", 32))
    serving.settle(len(windows[0]))
    expected, done = serving.listen(windows), threading.Event()

    def serve() -> bool:
        same = True
        while not done.is_set():
            same = same and np.array_equal(serving.listen(windows), expected)
        return same

    with ThreadPoolExecutor(1) as thread:
        always = thread.submit(serve)
        loaded = Engine(listener, EngineChoice("cuda", "bf16", 32))
        loaded.settle(len(windows[0]))
        done.set()
        assert always.result()
    assert loaded.captured


def test_a_window_does_not_depend_on_its_batch(listener: Listener, windows: list[np.ndarray]) -> None:
    engine = Engine(listener, EngineChoice("cuda", "fp32", 32))
    alone = np.concatenate([engine.listen([window]) for window in windows])
    together = engine.listen(windows)
    assert np.abs(alone - together).max() <= 1e-4 * np.abs(together).max()


def test_bad_memory_news_names_itself(listener: Listener) -> None:
    """The batcher halves batches on this message."""
    with pytest.raises(torch.cuda.OutOfMemoryError, match="out of memory"):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
