"""Linear layers and convolutions in 8 bits, computed in floats (*fake* quantisation).

OpenVINO's converter knows the pattern and multiplies 8-bit integers. Weights: symmetric, one scale for each output channel,
so nothing of them is stored. Inputs: 256 steps between two numbers for each layer, measured on training windows.
"""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, fake_quantize_per_channel_affine, fake_quantize_per_tensor_affine, nn

from app.errors import ReleaseError

Ranges = Mapping[str, tuple[float, float]]  # least and largest input, by the layer's name
Network = TypeVar("Network", bound=nn.Module)

STEPS = 255  # from the least of 256 values to the greatest
WEIGHT_STEPS = 127  # to either side of 0
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class Quantised(nn.Module):
    """A linear layer or a convolution with weights rounded to 8 bits, and its input to 256 steps, one of which is 0."""

    scale: Tensor
    zero: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv1d | nn.Conv2d, low: float, high: float) -> None:
        """`low`, `high`: the ends of the input's steps."""
        super().__init__()
        low, high = min(low, 0.0), max(high, 1e-6)  # 0 is what padding is
        self.input_scale = (high - low) / STEPS
        self.input_zero = round(-low / self.input_scale)
        self.layer = layer
        scale = row_scale(layer.weight.detach())  # (out,)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, within the rounding."""
        weight = fake_quantize_per_channel_affine(self.layer.weight, self.scale, self.zero, 0, -WEIGHT_STEPS, WEIGHT_STEPS)
        x = fake_quantize_per_tensor_affine(x, self.input_scale, self.input_zero, 0, STEPS)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weight, self.layer.bias)
        return self.layer._conv_forward(x, weight, self.layer.bias)  # type: ignore[no-any-return]


def quantised(network: Network, ranges: Ranges) -> Network:
    """A copy that shares the weights, with the layers that `ranges` names in 8 bits. Raises ReleaseError for other names."""
    copied = copy.deepcopy(network, {id(weights): weights for weights in network.parameters()})
    modules = dict(copied.named_modules())
    for name, (low, high) in ranges.items():
        layer = modules.get(name)
        if not isinstance(layer, LAYERS):
            raise ReleaseError(f"int8: the network has no layer {name!r}; make the ranges again for this release")
        parent, _, own = name.rpartition(".")
        setattr(modules[parent], own, Quantised(layer, low, high))
    return copied


def row_scale(weight: Tensor) -> Tensor:
    """(out, …) → (out,): the step of 8-bit weights, for each row."""
    return weight.flatten(1).abs().amax(dim=1).clamp_min(1e-12) / WEIGHT_STEPS
