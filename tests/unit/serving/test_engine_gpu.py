"""The same engine on a GPU. Skipped without one."""

import numpy as np
import pytest
import torch

from app.domain import FloatArray
from app.families.contract import Listener, Precision, Target
from app.serving.engine import Engine, targets
from app.settings import Settings
from tests.releases import TINY, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def listener() -> Listener:
    audio = tiny_model(network=TINY | {"base_channels": 16}, listen={"window_seconds": 30.0}).audio
    assert audio is not None
    return audio.listener


@pytest.fixture(scope="module")
def windows() -> list[FloatArray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(661_500)).astype(np.float32) for _ in range(5)]


def on_gpu(listener: Listener, precision: Precision) -> Engine:
    return Engine(listener, Target("cuda", precision))


def test_auto_takes_the_gpu(listener: Listener) -> None:
    target = targets(listener, Settings())[0]
    assert target.device == "cuda"
    assert Engine(listener, target).batch_size > 1


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 5e-2), ("fp16", 2e-2)])
def test_features_are_the_cpus(
    listener: Listener, windows: list[FloatArray], precision: Precision, tolerance: float
) -> None:
    expected = Engine(listener, Target("cpu", "fp32")).listen(windows)
    given = on_gpu(listener, precision).listen(windows)
    assert given.shape == expected.shape
    assert np.abs(given - expected).max() <= tolerance * np.abs(expected).max()


def test_a_window_does_not_depend_on_its_batch(listener: Listener, windows: list[FloatArray]) -> None:
    engine = on_gpu(listener, "fp32")
    alone = np.concatenate([engine.listen([window]) for window in windows])
    together = engine.listen(windows)
    assert np.abs(alone - together).max() <= 1e-4 * np.abs(together).max()


def test_too_little_memory_is_named_in_the_message() -> None:
    """The batcher halves batches on this message."""
    with pytest.raises(torch.cuda.OutOfMemoryError, match="out of memory"):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
