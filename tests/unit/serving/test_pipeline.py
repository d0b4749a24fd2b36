"""Parts, slots and padding, on a CPU: in order and uncaptured. What only a GPU can show is in test_engine_gpu."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from app.domain import FloatArray
from app.serving import pipeline as pipeline_module
from app.serving.pipeline import SIZES, Pipeline, fastest, parts
from tests.releases import tiny_model

CPU = torch.device("cpu")
SAMPLES = 200


class Sums(nn.Module):
    """Three features that tell which window it was, and how many rows each pass had."""

    def __init__(self, error: float = 0.0, slow: bool = False) -> None:
        super().__init__()
        self.error, self.slow = error, slow
        self.passes: list[int] = []

    def forward(self, samples: Tensor) -> Tensor:
        self.passes.append(len(samples))
        for _ in range(300 if self.slow else 1):
            sums = torch.stack([samples.sum(1), samples.square().sum(1), samples.amax(1)], dim=1)
        return sums + self.error * (len(samples) > 1)  # wrong in company alone


@pytest.fixture(scope="module")
def listener_of_a_second() -> nn.Module:
    return tiny_model(listen={"window_seconds": 1.0}).listener


def windows(n: int, seed: int = 0) -> list[FloatArray]:
    return list(np.random.default_rng(seed).standard_normal((n, SAMPLES), np.float32))


@given(n=st.integers(1, 100), sizes=st.sets(st.integers(1, 20), min_size=1))
def test_parts_hold_all_and_pad_little(n: int, sizes: set[int]) -> None:
    found = parts(n, sorted(sizes))
    assert sum(count for count, _ in found) == n
    assert all(count <= size and size in sizes for count, size in found)
    assert all(count == size == max(sizes) for count, size in found[:-1])
    count, size = found[-1]
    assert not [other for other in sizes if count <= other < size]


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 31, 32, 40, 64])
def test_answers_are_the_listeners(n: int) -> None:
    """Also in the third part and later, whose slot and input held other windows before."""
    listener = Sums()
    pipeline = Pipeline(listener, SAMPLES, CPU)
    for seed in range(3):
        given_windows = windows(n, seed)
        found = pipeline(given_windows)
        assert found.shape == (n, 3)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, Sums()(torch.from_numpy(np.stack(given_windows))), rtol=1e-5, atol=1e-4)


def test_passes_have_the_captured_sizes_only() -> None:
    listener = Sums()
    pipeline = Pipeline(listener, SAMPLES, CPU, sizes=(1, 4))
    listener.passes.clear()
    pipeline(windows(10))
    assert listener.passes == [4, 4, 4]
    listener.passes.clear()
    pipeline(windows(1))
    assert listener.passes == [1]


def test_what_is_given_out_stays_as_it_was() -> None:
    pipeline = Pipeline(Sums(), SAMPLES, CPU)
    first = pipeline(windows(3, seed=1))
    before = first.copy()
    pipeline(windows(3, seed=2))
    assert np.array_equal(first, before)


def test_callers_from_several_threads_do_not_mix() -> None:
    """A thread that hung may come back while another listens."""
    pipeline = Pipeline(Sums(), SAMPLES, CPU)
    batches = [windows(1 + seed % 20, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(pipeline, batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer[:, 2], np.stack(batch).max(1), rtol=1e-6)


def test_the_fastest_is_taken() -> None:
    slow, fast = Sums(slow=True), Sums()
    found = fastest([slow, fast], SAMPLES, CPU)
    assert found is not None
    slow.passes.clear()
    fast.passes.clear()
    found(windows(1))
    assert (slow.passes, fast.passes) == ([], [1])


@pytest.mark.parametrize("error", [1e3, float("nan")])
def test_one_that_answers_otherwise_is_left_out(error: float, caplog: pytest.LogCaptureFixture) -> None:
    right, wrong = Sums(slow=True), Sums(error)
    with caplog.at_level(logging.WARNING):
        found = fastest([right, wrong], SAMPLES, CPU)
    assert "differs by" in caplog.text
    assert found is not None
    wrong.passes.clear()
    found(windows(1))
    assert wrong.passes == []


def test_rows_that_were_mixed_up_would_show(listener_of_a_second: nn.Module) -> None:
    """On the real front end and network: no two windows that it is tried with are as close as roundings may make them."""
    probe = [pipeline_module._probe(number, 22_050) for number in range(max(SIZES))]
    with torch.inference_mode():
        rows = listener_of_a_second(torch.from_numpy(np.stack(probe))).numpy()
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2) + np.diag(np.full(len(rows), np.inf))
    assert apart.min() > pipeline_module._CLOSE * np.abs(rows).max()


def test_where_nothing_can_be_captured_there_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> object:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(pipeline_module.Pipeline, "_captured", refuse)
    assert fastest([Sums()], SAMPLES, CPU) is None
    assert "not permitted" in caplog.text


def test_sizes_begin_with_a_window_alone() -> None:
    """Else a lone window would be padded."""
    assert SIZES[0] == 1
    assert list(SIZES) == sorted(SIZES)
