"""The trunk in 8 bits: what every convolution's input and weights become when they are rounded to 256 steps.

Here it is computed in floats (*fake* quantisation). OpenVINO knows the pattern, and runs such a convolution as a product of
8-bit integers. Weights: symmetric, a scale for each output channel, so nothing of them has to be stored. Inputs: 0 to 255
between two numbers for each convolution, measured on training windows. What a block adds up is rounded too, its shortcut as
the input of the convolution beside it: then sums are made inside convolutions, and nothing between blocks is in floats.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from app.errors import ReleaseError
from app.families.lrid_net.listen import Bottleneck, ResNet

Ranges = dict[str, tuple[float, float]]  # least and largest, by name: of a convolution's input, of a summand

STEPS = 255  # from the least of 256 values to the greatest
_WEIGHT_STEPS = 127  # to either side of 0


class Rounded(nn.Module):
    """Activations rounded to 8 bits: 256 steps from `low` to `high`, one of which is 0."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        low, high = min(low, 0.0), max(high, 1e-6)  # 0 is what padding is, and what ReLU leaves
        self.scale = (high - low) / STEPS
        self.zero = round(-low / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, STEPS)


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
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.stride, self.padding = conv.stride, conv.padding
        self.rounded = Rounded(low, high)

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution, within the rounding."""
        return torch.conv2d(self.rounded(x), self._rounded_weight(), self.bias, self.stride, self.padding)

    def weight_steps(self) -> Tensor:
        """The weights as they are multiplied, int8 in [-127, 127]; times `weight_scale` of their channel, as floats."""
        return (self._rounded_weight() / self.weight_scale.view(-1, 1, 1, 1)).round().to(torch.int8)

    def _rounded_weight(self) -> Tensor:
        return torch.fake_quantize_per_channel_affine(
            self.weight, self.weight_scale, self.weight_zero, 0, -_WEIGHT_STEPS, _WEIGHT_STEPS
        )


def quantised(trunk: ResNet, ranges: Mapping[str, tuple[float, float]]) -> ResNet:
    """A copy of a folded fp32 trunk in which all that `ranges` names is in 8 bits; the rest stays as it is.

    Raises ReleaseError for a name that is nothing of this network.
    """
    copied = copy.deepcopy(trunk)
    modules = dict(copied.named_modules())
    known = {name for name, module in modules.items() if isinstance(module, nn.Conv2d)} | _summands(copied).keys()
    if unknown := sorted(ranges.keys() - known):
        raise ReleaseError(f"int8: the network has no layer {unknown[0]!r}; make the ranges again for this release")
    for name, (low, high) in ranges.items():
        parent, _, own = name.rpartition(".")
        module = modules[name]
        convolution = isinstance(module, nn.Conv2d)
        setattr(modules[parent], own, QuantisedConv(module, low, high) if convolution else Rounded(low, high))
    for name, block in modules.items():
        if isinstance(block, Bottleneck) and block.downsample is None and f"{name}.conv1" in ranges:
            block.downsample = Rounded(*ranges[f"{name}.conv1"])
    return copied


def _summands(trunk: nn.Module) -> dict[str, nn.Module]:
    """What a block adds up, by name: the BatchNorms at the ends of its two branches, or what is left of them by folding."""
    return {
        name: module
        for name, module in trunk.named_modules()
        if name.endswith((".bn3", ".downsample.1")) and isinstance(module, (nn.BatchNorm2d, nn.Identity))
    }


@contextmanager
def measured_ranges(trunk: nn.Module) -> Iterator[Ranges]:
    """While it lasts: the least and largest input of each convolution and the same of each summand, over all passes."""
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
    hooks += [
        module.register_forward_hook(lambda _, given, output, name=name: look(name, output))
        for name, module in _summands(trunk).items()
    ]
    try:
        yield ranges
    finally:
        for hook in hooks:
            hook.remove()
