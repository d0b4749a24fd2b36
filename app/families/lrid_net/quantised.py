"""The trunk in 8 bits: what every convolution's input and weights become when they are rounded to 256 steps.

Here it is computed in floats (*fake* quantisation). OpenVINO knows the pattern, and runs such a convolution as a product of
8-bit integers. Weights: symmetric, a scale for each output channel, so nothing of them has to be stored. Inputs: 0 to 255
between two numbers for each convolution, measured on training windows. The shortcuts are not rounded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from app.errors import ReleaseError

Ranges = dict[str, tuple[float, float]]  # least and largest input of each convolution, by its name in the trunk

_INPUT_STEPS, _WEIGHT_STEPS = 255, 127


class QuantisedConv(nn.Module):
    """A folded convolution whose input and weights are rounded to 8 bits."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor

    def __init__(self, conv: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        assert isinstance(conv.padding, tuple)
        weight = conv.weight.detach()
        scale = weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-12) / _WEIGHT_STEPS  # (out_channels,)
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero", torch.zeros(len(scale), dtype=torch.int32))
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._stride, self._padding = conv.stride, conv.padding
        low, high = min(low, 0.0), max(high, 1e-6)  # 0, which is also the padding, must be a step
        self._scale = (high - low) / _INPUT_STEPS
        self._zero = round(-low / self._scale)

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution, within the rounding."""
        x = torch.fake_quantize_per_tensor_affine(x, self._scale, self._zero, 0, _INPUT_STEPS)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.weight_scale, self.weight_zero, 0, -_WEIGHT_STEPS, _WEIGHT_STEPS
        )
        return torch.conv2d(x, weight, self._bias, self._stride, self._padding)


def quantised(trunk: nn.Module, ranges: Mapping[str, tuple[float, float]]) -> nn.Module:
    """A copy of a folded fp32 trunk with the convolutions that `ranges` names in 8 bits; the others stay as they are.

    Raises ReleaseError for a name that is none of its convolutions.
    """
    copied = copy.deepcopy(trunk)
    convolutions = {name for name, module in copied.named_modules() if isinstance(module, nn.Conv2d)}
    if unknown := sorted(ranges.keys() - convolutions):
        raise ReleaseError(f"int8: the network has no convolution {unknown[0]!r}; make the ranges again for this release")
    for name, (low, high) in ranges.items():
        parent, _, own = name.rpartition(".")
        conv = copied.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        setattr(copied.get_submodule(parent), own, QuantisedConv(conv, low, high))
    return copied


@contextmanager
def measured_ranges(trunk: nn.Module) -> Iterator[Ranges]:
    """While it lasts: the least and largest number that each convolution of `trunk` is given, over all passes."""
    ranges: Ranges = {}

    def look(name: str, x: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(x))
        before = ranges.get(name, (low, high))
        ranges[name] = (min(low, before[0]), max(high, before[1]))

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
        for name, module in trunk.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        yield ranges
    finally:
        for hook in hooks:
            hook.remove()
