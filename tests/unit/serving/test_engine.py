"""The engine: an answer does not depend on what else is listened to, nor on how many threads there are."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.errors import ReleaseError
from app.families.contract import Backend, Listen, Listener, Precision, Target
from app.serving import engine as engine_module
from app.serving.engine import Engine, targets
from app.settings import Settings
from tests.releases import TINY, listen_with, tiny_model
from tests.unit.serving.sounds import SECOND, sound

WIDE = TINY | {"base_channels": 16}  # wide enough for oneDNN's blocked and matrix kernels
FP32 = Target("cpu", "fp32")


def cpu(precision: Precision, threads: int) -> Target:
    return Target("cpu", precision, threads=threads)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def listener() -> Listener:
    audio = tiny_model(network=WIDE, listen={"window_seconds": 1.0}).audio
    assert audio is not None
    return audio.listener


@pytest.fixture(scope="module")
def engine(listener: Listener) -> Engine:
    return Engine(listener, FP32)


company = st.lists(st.integers(0, 30), min_size=0, max_size=5)


@settings(max_examples=30)
@given(number=st.integers(0, 30), before=company, after=company)
def test_company_does_not_change_an_answer(engine: Engine, number: int, before: list[int], after: list[int]) -> None:
    """Bit for bit on a CPU."""
    windows = [sound(n) for n in (*before, number, *after)]
    rows = engine.listen(windows)
    assert rows.shape == (len(windows), WIDE["base_channels"] * 32)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[len(before)], engine.listen([sound(number)])[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bit_for_bit_the_same_alone_and_beside_others_on_two_threads(listener: Listener, precision: Precision) -> None:
    windows = [sound(n) for n in range(4)]
    engine = Engine(listener, cpu(precision, 2))
    engine.settle(SECOND)
    alone = [engine.listen([window])[0] for window in windows]
    for order in ([0, 1], [1, 0], [0, 1, 2, 3], [3, 2], [2, 0, 1]):
        rows = engine.listen([windows[i] for i in order])
        assert rows.shape == (len(order), listener.n_features)
        for row, i in zip(rows, order, strict=True):
            assert np.array_equal(row, alone[i])


def test_agrees_with_the_network_that_is_not_folded() -> None:
    model = tiny_model(network=WIDE, listen={"window_seconds": 1.0})
    assert model.audio is not None
    windows = [sound(n) for n in range(3)]
    expected = listen_with(model)(windows)
    given = Engine(model.audio.listener, cpu("fp32", 2)).listen(windows)
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


def test_bf16_is_close(listener: Listener, engine: Engine) -> None:
    """Close, not equal: 8 bits of mantissa; golden.json decides what it means for the answers."""
    windows = [sound(n) for n in range(4)]
    exact, rounded = engine.listen(windows), Engine(listener, cpu("bf16", 1)).listen(windows)
    assert rounded.dtype == np.float32
    error = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.05


class CountsThreads:
    """A listener whose feature is the number of threads it runs on; implements `contract.Listener`."""

    n_features = 1

    def __init__(self, *precisions: Precision) -> None:
        self._precisions = precisions
        self.targets: list[Target] = []

    def precisions(self, backend: Backend) -> tuple[Precision, ...]:
        return self._precisions

    def forget(self) -> None:
        """There are no weights."""

    def prepare(self, target: Target) -> Listen:
        self.targets.append(target)
        return self.listen

    def listen(self, samples: Tensor) -> Tensor:
        return torch.full((len(samples), 1), float(torch.get_num_threads()))


def test_a_lone_window_has_all_threads_and_several_have_one_each() -> None:
    listener = CountsThreads("fp32")
    engine = Engine(listener, cpu("fp32", 2))
    window = np.zeros(8, np.float32)
    assert engine.listen([window]).tolist() == [[2.0]]
    assert engine.listen([window, window]).tolist() == [[1.0], [1.0]]
    assert [target.threads for target in listener.targets] == [2, 1]


def test_where_threads_change_answers_every_window_gets_one() -> None:
    engine = Engine(CountsThreads("fp32"), cpu("fp32", 2))
    engine.settle(8)
    window = np.zeros(8, np.float32)
    assert engine.listen([window]).tolist() == [[1.0]]
    assert engine.listen([window, window]).tolist() == [[1.0], [1.0]]


# --- the choice -------------------------------------------------------------------------------------------------------

ANY = CountsThreads("bf16", "fp32")


def choose_for(listener: Listener = ANY, *, threads: int = 1, **settings: Any) -> Target:
    return targets(listener, Settings(engine="torch", torch_threads=threads, **settings))[0]


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


def test_cuda_asked_for_and_none_there(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    with pytest.raises(ReleaseError, match="no CUDA device is available"):
        choose_for(device="cuda")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch, precision: Precision) -> None:
    no_gpu(monkeypatch)
    assert choose_for(precision=precision) == Target("cpu", precision)
    assert torch.get_num_threads() == 1


def test_a_precision_the_listener_does_not_have_is_refused_with_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    with pytest.raises(ReleaseError, match=r"precision=int8 was asked for, and this release runs in bf16, fp32 on a CPU"):
        choose_for(precision="int8")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"fp32": 10.0, "bf16": 4.0}, "bf16"),
        ({"fp32": 10.0, "bf16": 30.0}, "fp32"),
        ({"fp32": 10.0, "bf16": 9.0}, "fp32"),  # not worth the rounding
    ],
)
def test_on_a_cpu_bf16_must_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], expected: str
) -> None:
    no_gpu(monkeypatch)
    measured = iter(seconds.values())
    monkeypatch.setattr(engine_module, "_best_seconds", lambda work: next(measured))
    assert choose_for().precision == expected


def test_on_a_cpu_the_choice_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    assert choose_for().precision in ("fp32", "bf16")
    assert choose_for(CountsThreads("fp32")).precision == "fp32"


def test_as_many_windows_at_once_as_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    assert choose_for(precision="fp32", threads=2) == Target("cpu", "fp32", threads=2)


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16")])
def test_on_a_gpu_the_choice_goes_by_its_age(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: Precision
) -> None:
    a_gpu(monkeypatch, capability)
    assert choose_for() == Target("cuda", expected)
    assert choose_for(device="cpu", precision="fp32").device == "cpu"
    with pytest.raises(ReleaseError, match="runs on a CPU only"):
        choose_for(precision="int8")
