"""The CPU engine: an answer does not depend, to the bit, on what else was listened to, nor on how many threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from app.domain import FloatArray
from app.serving.engine import Engine, EngineChoice, Precision, choose
from tests.releases import TINY, listen_with, tiny_model

WIDE = TINY | {"base_channels": 16}  # wide enough for oneDNN's blocked and matrix kernels


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def noise(n: int, n_samples: int) -> list[FloatArray]:
    rng = np.random.default_rng(5)
    return [(rng.standard_normal(n_samples) * 0.1).astype(np.float32) for _ in range(n)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bit_for_bit_the_same_alone_and_in_any_company(precision: Precision) -> None:
    model = tiny_model(network=WIDE)
    windows = noise(4, model.window_samples)
    torch.set_num_threads(2)
    engine = Engine(model.listener, EngineChoice("cpu", precision, batch_size=2))
    engine.settle(model.window_samples)
    alone = [engine.listen([window])[0] for window in windows]
    for order in ([0, 1], [1, 0], [0, 1, 2, 3], [3, 2], [2, 0, 1]):
        rows = engine.listen([windows[i] for i in order])
        assert rows.shape == (len(order), model.n_audio_features)
        for row, i in zip(rows, order, strict=True):
            assert np.array_equal(row, alone[i])


def test_agrees_with_the_unfolded_network() -> None:
    model = tiny_model(network=WIDE)
    windows = noise(3, model.window_samples)
    expected = listen_with(model)(windows)
    given = Engine(model.listener, EngineChoice("cpu", "fp32", batch_size=2)).listen(windows)
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


def test_when_threads_change_answers_every_window_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    torch.set_num_threads(2)
    engine = Engine(model.listener, EngineChoice("cpu", "fp32", batch_size=2))
    honest = engine._listener.forward
    monkeypatch.setattr(engine._listener, "forward", lambda x: honest(x) * 2)
    window = noise(1, model.window_samples)[0]
    assert not np.array_equal(engine.listen([window]), engine.listen([window, window])[:1])
    engine.settle(model.window_samples)
    assert np.array_equal(engine.listen([window]), engine.listen([window, window])[:1])


def test_as_many_windows_at_once_as_threads() -> None:
    choice = choose(device="cpu", precision="fp32", threads=2, backend="torch")
    assert choice == EngineChoice("cpu", "fp32", batch_size=2)
