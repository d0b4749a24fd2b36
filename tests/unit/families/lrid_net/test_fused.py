"""The fused trunk against the plain one: the same numbers, whatever the width, in both precisions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from app.families.lrid_net.fused import CudnnConv, FusedResNet, OneDnnConv, has_onednn
from app.families.lrid_net.listen import Listener, ResNet
from app.serving.engine import fold_batch_norm
from tests.releases import TINY, tiny_model

needs_onednn = pytest.mark.skipif(not has_onednn(torch.float32), reason="no oneDNN in this build of PyTorch")


def folded_trunk(dtype: torch.dtype, **network: object) -> ResNet:
    model = tiny_model(network=TINY | network)
    trunk = fold_batch_norm(copy.deepcopy(model.network.f)).to(dtype=dtype, memory_format=torch.channels_last)
    assert isinstance(trunk, ResNet)
    return trunk


def spectrogram(frames: int, dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(1, 1, 128, frames, generator=torch.Generator().manual_seed(1)) * 20 - 30  # decibels
    return x.to(dtype, memory_format=torch.channels_last)


@needs_onednn
@pytest.mark.parametrize("frames", [2580, 2579, 64])
@pytest.mark.parametrize("network", [{}, {"base_channels": 16, "stage_blocks": [2, 1, 2, 1]}])
@torch.inference_mode()
def test_same_as_the_plain_trunk(frames: int, network: dict[str, object]) -> None:
    trunk, x = folded_trunk(torch.float32, **network), spectrogram(frames, torch.float32)
    plain, fused = trunk(x), FusedResNet(trunk, (1, 1, 128, frames), OneDnnConv)(x)
    assert fused.shape == plain.shape
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.skipif(not has_onednn(torch.bfloat16), reason="no bf16 convolutions here")
@torch.inference_mode()
def test_in_bf16_as_close_to_fp32_as_the_plain_trunk() -> None:
    exact = folded_trunk(torch.float32)(spectrogram(2580, torch.float32))
    trunk, x = folded_trunk(torch.bfloat16), spectrogram(2580, torch.bfloat16)
    error_plain = (trunk(x) - exact).norm()
    error_fused = (FusedResNet(trunk, (1, 1, 128, 2580), OneDnnConv)(x) - exact).norm()
    assert 0 < error_fused <= 1.5 * error_plain


@needs_onednn
@torch.inference_mode()
def test_leaves_its_input_and_the_trunk_alone() -> None:
    trunk, x = folded_trunk(torch.float32), spectrogram(64, torch.float32)
    before_x, before = x.clone(), {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    fused = FusedResNet(trunk, (1, 1, 128, 64), OneDnnConv)
    first = fused(x)
    assert torch.equal(x, before_x)
    assert torch.equal(fused(x), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())


@needs_onednn
def test_what_cannot_be_fused_stays_as_it_is() -> None:
    model = tiny_model()
    half = Listener(model.listener.log_mel, copy.deepcopy(model.network.f).half())
    assert half.fused() is half
    fused = Listener(model.listener.log_mel, folded_trunk(torch.float32)).fused()
    assert isinstance(fused.trunk, FusedResNet)
    assert fused.fused() is fused


@pytest.fixture
def cudnn_on_the_cpu() -> Iterator[list[str]]:
    """cuDNN's operators, registered for CPUs as what they stand for; the list says which were called."""
    called = []

    def relu(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
        called.append("relu")
        return torch.conv2d(x, weight, bias, *geometry).relu()

    def add_relu(x: Tensor, weight: Tensor, z: Tensor, alpha: float, bias: Tensor, *geometry: Any) -> Tensor:
        called.append("add_relu")
        return (torch.conv2d(x, weight, bias, *geometry) + alpha * z).relu()

    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("cudnn_convolution_relu", relu, "CPU")
        library.impl("cudnn_convolution_add_relu", add_relu, "CPU")
        yield called


@pytest.mark.parametrize("blocks", [[1, 1, 1, 1], [2, 1, 2, 1]])
@torch.inference_mode()
def test_by_cudnn_the_same_as_the_plain_trunk(cudnn_on_the_cpu: list[str], blocks: list[int]) -> None:
    """What is put together and how; the operators themselves run on GPUs only."""
    trunk = folded_trunk(torch.float32, stage_blocks=blocks)
    x = spectrogram(64, torch.float32).repeat(3, 1, 1, 1)
    plain, fused = trunk(x), FusedResNet(trunk, (1, 1, 128, 64), CudnnConv)(x)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))
    assert cudnn_on_the_cpu == ["relu", "relu", "add_relu"] * sum(blocks)
