"""The listener of LRID-Net: folding changes nothing, and windows of one batch do not mix."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from app.families.contract import Target
from app.families.lrid_net.listen import Listener, fold_batch_norm
from tests.releases import TINY, tiny_model
from tests.unit.serving.sounds import sound

company = st.lists(st.integers(0, 30), min_size=0, max_size=5)


@pytest.fixture(scope="module")
def listener() -> Listener:
    """Of a second's windows; two blocks a stage, so that there are blocks with and without a downsampling shortcut."""
    audio = tiny_model(network=TINY | {"stage_blocks": [2, 1, 2, 1]}, listen={"window_seconds": 1.0}).audio
    assert audio is not None
    assert isinstance(audio.listener, Listener)
    return audio.listener


@settings(max_examples=20)
@given(number=st.integers(0, 30), before=company, after=company)
def test_windows_of_one_pass_do_not_mix(listener: Listener, number: int, before: list[int], after: list[int]) -> None:
    """1e-5 in fp32 where a batch is one pass, as on a GPU: the network has no layer that looks across windows."""
    listen = listener.prepare(Target("cpu", "fp32"))
    batch = torch.from_numpy(np.stack([sound(n) for n in (*before, number, *after)]))
    with torch.inference_mode():
        row = listen(batch)[len(before)]
        alone = listen(batch[len(before) : len(before) + 1])[0]
    torch.testing.assert_close(row, alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


def test_folding_changes_nothing_and_leaves_no_batch_norm(listener: Listener) -> None:
    folded = Listener(listener.log_mel, fold_batch_norm(copy.deepcopy(listener.trunk)))
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    convolutions = [module for module in listener.modules() if isinstance(module, nn.Conv2d)]
    assert len([m for m in folded.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]) == len(convolutions)
    batch = torch.from_numpy(np.stack([sound(n) for n in range(4)]))
    with torch.inference_mode():
        before, after = listener(batch), folded(batch)
    assert float(before.std()) > 0.01  # not all the same
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_preparing_leaves_the_listener_as_it_was(listener: Listener, precision: str) -> None:
    before = {name: tensor.clone() for name, tensor in listener.state_dict().items()}
    prepared = listener.prepare(Target("cpu", precision))  # type: ignore[arg-type]
    with torch.inference_mode():
        prepared(torch.from_numpy(sound(0))[None])
    assert list(listener.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in listener.state_dict().items())
