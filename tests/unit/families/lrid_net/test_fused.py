"""The fused trunk against the plain one: the same numbers, whatever the width, in both precisions."""

from __future__ import annotations

import copy

import pytest
import torch

from app.families.lrid_net.fused import FusedResNet, can_fuse
from app.families.lrid_net.listen import Listener, ResNet
from app.serving.engine import fold_batch_norm
from tests.releases import TINY, tiny_model

pytestmark = pytest.mark.skipif(not can_fuse(torch.float32), reason="no oneDNN in this build of PyTorch")


def folded_trunk(dtype: torch.dtype, **network: object) -> ResNet:
    model = tiny_model(network=TINY | network)
    trunk = fold_batch_norm(copy.deepcopy(model.network.f)).to(dtype=dtype, memory_format=torch.channels_last)
    assert isinstance(trunk, ResNet)
    return trunk


def spectrogram(frames: int, dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(1, 1, 128, frames, generator=torch.Generator().manual_seed(1)) * 20 - 30  # decibels
    return x.to(dtype, memory_format=torch.channels_last)


@pytest.mark.parametrize("frames", [2580, 2579, 64])
@pytest.mark.parametrize("network", [{}, {"base_channels": 16, "stage_blocks": [2, 1, 2, 1]}])
@torch.inference_mode()
def test_same_as_the_plain_trunk(frames: int, network: dict[str, object]) -> None:
    trunk, x = folded_trunk(torch.float32, **network), spectrogram(frames, torch.float32)
    plain, fused = trunk(x), FusedResNet(trunk, (1, 1, 128, frames))(x)
    assert fused.shape == plain.shape
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.skipif(not can_fuse(torch.bfloat16), reason="no bf16 convolutions here")
@torch.inference_mode()
def test_in_bf16_as_close_to_fp32_as_the_plain_trunk() -> None:
    exact = folded_trunk(torch.float32)(spectrogram(2580, torch.float32))
    trunk, x = folded_trunk(torch.bfloat16), spectrogram(2580, torch.bfloat16)
    error_plain = (trunk(x) - exact).norm()
    error_fused = (FusedResNet(trunk, (1, 1, 128, 2580))(x) - exact).norm()
    assert 0 < error_fused <= 1.5 * error_plain


@torch.inference_mode()
def test_leaves_its_input_and_the_trunk_alone() -> None:
    trunk, x = folded_trunk(torch.float32), spectrogram(64, torch.float32)
    before_x, before = x.clone(), {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    fused = FusedResNet(trunk, (1, 1, 128, 64))
    first = fused(x)
    assert torch.equal(x, before_x)
    assert torch.equal(fused(x), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())


def test_what_cannot_be_fused_stays_as_it_is() -> None:
    model = tiny_model()
    half = Listener(model.listener.log_mel, copy.deepcopy(model.network.f).half())
    assert half.fused() is half
    fused = Listener(model.listener.log_mel, folded_trunk(torch.float32)).fused()
    assert isinstance(fused.trunk, FusedResNet)
    assert fused.fused() is fused
