"""The engine: folding changes nothing, company changes nothing, and the precision is the one that suits the machine."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from app.domain import FloatArray
from app.families.golden import Tone
from app.serving import engine as engine_module
from app.serving.engine import Engine, EngineChoice, choose, fold_batch_norm
from tests.releases import TINY, tiny_model

SECOND = 22_050  # samples
FP32 = EngineChoice("cpu", "fp32", batch_size=1)


@pytest.fixture(scope="module")
def listener() -> nn.Module:
    """Of a second's windows; two blocks a stage, so that there are blocks with and without a downsampling shortcut."""
    return tiny_model(network=TINY | {"stage_blocks": [2, 1, 2, 1]}, listen={"window_seconds": 1.0}).listener


@pytest.fixture(scope="module")
def engine(listener: nn.Module) -> Engine:
    return Engine(listener, FP32)


def sound(seed: int) -> FloatArray:
    """A second of something, by number: tones, noise, near silence and clipping."""
    rng = np.random.default_rng(seed)
    tone = Tone(pitch_hz=float(rng.uniform(80, 1500))).samples(SECOND, SECOND)
    level = rng.choice([1e-4, 0.1, 1.0, 5.0])
    return np.clip(level * (tone + rng.uniform(0, 1) * rng.standard_normal(SECOND)), -1, 1).astype(np.float32)


company = st.lists(st.integers(0, 30), min_size=0, max_size=5)


@settings(max_examples=30)
@given(number=st.integers(0, 30), before=company, after=company)
def test_company_does_not_change_an_answer(engine: Engine, number: int, before: list[int], after: list[int]) -> None:
    """Bit for bit on a CPU."""
    windows = [sound(n) for n in (*before, number, *after)]
    rows = engine.listen(windows)
    assert rows.shape == (len(windows), TINY["base_channels"] * 32)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[len(before)], engine.listen([sound(number)])[0])


@settings(max_examples=20)
@given(number=st.integers(0, 30), before=company, after=company)
def test_company_within_one_pass_does_not_change_an_answer(
    listener: nn.Module, number: int, before: list[int], after: list[int]
) -> None:
    """1e-5 in fp32 where a batch is one pass, as on a GPU: the network has no layer that looks across windows."""
    folded = fold_batch_norm(copy.deepcopy(listener))
    batch = torch.from_numpy(np.stack([sound(n) for n in (*before, number, *after)]))
    with torch.inference_mode():
        row = folded(batch)[len(before)]
        alone = folded(batch[len(before) : len(before) + 1])[0]
    torch.testing.assert_close(row, alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


def test_folding_changes_nothing_and_leaves_no_batch_norm(listener: nn.Module) -> None:
    folded = fold_batch_norm(copy.deepcopy(listener))
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    convolutions = [module for module in listener.modules() if isinstance(module, nn.Conv2d)]
    assert len([m for m in folded.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]) == len(convolutions)
    batch = torch.from_numpy(np.stack([sound(n) for n in range(4)]))
    with torch.inference_mode():
        before, after = listener(batch), folded(batch)
    assert float(before.std()) > 0.01  # not all the same
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_the_listener_that_was_given_stays_as_it_was(listener: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in listener.state_dict().items()}
    Engine(listener, EngineChoice("cpu", "bf16", 1)).listen([sound(0)])
    assert list(listener.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in listener.state_dict().items())


def test_bf16_is_close(listener: nn.Module, engine: Engine) -> None:
    """Close, not equal: 8 bits of mantissa; what it means for the answers is golden.json's business."""
    windows = [sound(n) for n in range(4)]
    exact, rounded = engine.listen(windows), Engine(listener, EngineChoice("cpu", "bf16", 1)).listen(windows)
    assert rounded.dtype == np.float32
    error = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.05


# --- the choice -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _threads_as_before() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


def test_cuda_asked_for_and_none_there(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    with pytest.raises(ValueError, match="no CUDA device is available"):
        choose(device="cuda", precision="auto", threads=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    no_gpu(monkeypatch)
    choice = choose(device="auto", precision=precision, threads=1)
    assert (choice.device, choice.precision) == ("cpu", precision)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({torch.float32: 10.0, torch.bfloat16: 4.0}, "bf16"),
        ({torch.float32: 10.0, torch.bfloat16: 30.0}, "fp32"),
        ({torch.float32: 10.0, torch.bfloat16: 9.0}, "fp32"),  # not worth the rounding
    ],
)
def test_on_a_cpu_bf16_must_be_clearly_faster(monkeypatch: pytest.MonkeyPatch, seconds: dict, expected: str) -> None:
    no_gpu(monkeypatch)
    monkeypatch.setattr(engine_module, "_convolution_seconds", seconds.__getitem__)
    assert choose(device="auto", precision="auto", threads=1).precision == expected


def test_on_a_cpu_the_choice_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    assert choose(device="auto", precision="auto", threads=1).precision in ("fp32", "bf16")


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16")])
def test_on_a_gpu_the_choice_goes_by_its_age(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    a_gpu(monkeypatch, capability)
    choice = choose(device="auto", precision="auto", threads=1)
    assert (choice.device, choice.precision) == ("cuda", expected)
    assert choice.batch_size > 1
    assert choose(device="cpu", precision="fp32", threads=1).device == "cpu"
