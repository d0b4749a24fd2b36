"""The listener of LRID-Net: folding changes nothing, and windows of one batch do not mix."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from app.errors import ReleaseError
from app.families.contract import Listener, Target
from app.families.lrid_net.config import NetworkConfig
from app.families.lrid_net.network import ResNet, fold_batch_norm
from tests.releases import TINY, tiny_model
from tests.unit.serving.sounds import sound

company = st.lists(st.integers(0, 30), min_size=0, max_size=5)


@pytest.fixture(scope="module")
def listener() -> Listener:
    """Of a second's windows; two blocks a stage, so that there are blocks with and without a downsampling shortcut."""
    audio = tiny_model(network=TINY | {"stage_blocks": [2, 1, 2, 1]}, listen={"window_seconds": 1.0}).audio
    assert audio is not None
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


def test_folding_changes_nothing_and_leaves_no_batch_norm() -> None:
    torch.manual_seed(0)
    plain = ResNet(NetworkConfig(base_channels=4, stage_blocks=[2, 1, 2, 1]))
    with torch.no_grad():
        plain(torch.randn(8, 1, 64, 80))  # statistics that are not those of the first step
    folded = fold_batch_norm(copy.deepcopy(plain.eval()))
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    convolutions = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    assert len([m for m in folded.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]) == len(convolutions)
    batch = torch.randn(4, 1, 64, 80)
    with torch.inference_mode():
        before, after = plain(batch), folded(batch)
    assert float(before.std()) > 0.01  # not all the same
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_preparing_leaves_the_listener_as_it_was(listener: Listener, precision: str) -> None:
    samples = torch.from_numpy(sound(0))[None]
    with torch.inference_mode():
        first = listener.prepare(Target("cpu", "fp32"))(samples)
        listener.prepare(Target("cpu", precision))(samples)  # type: ignore[arg-type]
        assert torch.equal(listener.prepare(Target("cpu", "fp32"))(samples), first)


def test_eight_bits_are_refused(listener: Listener) -> None:
    with pytest.raises(ReleaseError, match="int8"):
        listener.prepare(Target("cpu", "int8"))
