"""The trunk as OpenVINO runs it on a CPU: the extra `openvino`. Same weights, same answers within the precision.

The network is written down in OpenVINO's own operations. OpenVINO can convert a module, but by `torch.jit.trace`, which
takes seconds and at every call keeps 18 MB for as long as the process lives.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.families.lrid_net.listen import Bottleneck, ResNet
from app.families.lrid_net.quantised import STEPS, QuantisedConv, Rounded

Shape = tuple[int, int, int, int]  # (n, channels, height, width)

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_OPERATIONS = "openvino.opset13"  # OpenVINO 2023.2 and later have it


class OpenVinoTrunk(nn.Module):
    """A compiled trunk for one window at a time. As many threads may call as it has streams, each by its own request."""

    dtype = torch.float32  # of what comes in; the precision inside is the compiled model's

    def __init__(self, compiled: Any) -> None:
        super().__init__()
        self._compiled = compiled
        self._own = threading.local()

    def forward(self, x: Tensor) -> Tensor:
        """(1, 1, 128, t) float32 → (1, 2048) float32."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        features = request.infer({0: np.ascontiguousarray(x.numpy())})[0]
        return torch.from_numpy(features.copy())


def compile_trunk(trunk: ResNet, shape: Shape, precision: str, threads: int) -> list[OpenVinoTrunk]:
    """A folded fp32 trunk on all threads together, and on one thread for each of as many windows side by side.

    For int8 it is the `quantised` one. Raises ImportError without the extra.
    """
    openvino: Any = importlib.import_module("openvino")
    model = _model(openvino, trunk, shape)
    core = openvino.Core()
    hint = _HINTS.get(precision) or _around_int8(core)
    compiled = []
    for streams in (1, threads):
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # decoders want to run on the same cores
        }
        compiled.append(OpenVinoTrunk(core.compile_model(model, "CPU", settings)))
    return compiled


def _around_int8(core: Any) -> str:
    """What is not rounded to 8 bits (shortcuts, the first layer, the mean) is bf16 where the CPU multiplies it."""
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


@torch.inference_mode()
def _model(openvino: Any, trunk: ResNet, shape: Shape) -> Any:
    """What `ResNet.forward` does with an input of this shape, as an `openvino.Model`, which has copies of the weights."""
    ops: Any = importlib.import_module(_OPERATIONS)
    parts: list[nn.Module] = [trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool]
    parts += [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    window = ops.parameter(list(shape), np.float32)
    feature_map = _node(ops, nn.Sequential(*parts), window)
    features = ops.reduce_mean(feature_map, np.array([2, 3]), keep_dims=False)
    return openvino.Model([features], [window], "trunk")


def _node(ops: Any, module: nn.Module, x: Any) -> Any:
    """What a module of a folded trunk does with the node `x`. Raises TypeError for one that is none of these."""
    match module:
        case nn.Identity():
            pass
        case nn.Sequential():
            for child in module:
                x = _node(ops, child, x)
        case Bottleneck():
            x = _bottleneck(ops, module, x)
        case nn.Conv2d() | QuantisedConv():
            x = _convolution(ops, module, x)
        case Rounded():
            x = _rounded(ops, module, x)
        case nn.ReLU():
            x = ops.relu(x)
        case nn.MaxPool2d():
            size, stride, padding = (_pair(n) for n in (module.kernel_size, module.stride, module.padding))
            x = ops.max_pool(x, stride, [1, 1], padding, padding, size).output(0)
        case _:
            raise TypeError(f"a folded trunk has no {type(module).__name__}")
    return x


def _bottleneck(ops: Any, block: Bottleneck, x: Any) -> Any:
    shortcut = x if block.downsample is None else _node(ops, block.downsample, x)
    for convolution, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        x = ops.relu(_node(ops, norm, _node(ops, convolution, x)))
    x = _node(ops, block.bn3, _node(ops, block.conv3, x))
    return ops.relu(ops.add(x, shortcut))


def _convolution(ops: Any, conv: nn.Conv2d | QuantisedConv, x: Any) -> Any:
    if isinstance(conv, QuantisedConv):
        x = _rounded(ops, conv.rounded, x)
        scale = ops.constant(conv.weight_scale.view(-1, 1, 1, 1).numpy())
        weight = ops.multiply(ops.convert(ops.constant(conv.weight_steps().numpy()), "f32"), scale)
    else:
        weight = ops.constant(conv.weight.numpy())
    stride, padding = _pair(conv.stride), _pair(conv.padding)
    x = ops.convolution(x, weight, stride, padding, padding, [1, 1])
    return x if conv.bias is None else ops.add(x, ops.constant(conv.bias.view(1, -1, 1, 1).numpy()))


def _rounded(ops: Any, rounded: Rounded, x: Any) -> Any:
    scale = np.float32(rounded.scale)
    low, high = (np.float32(step - rounded.zero) * scale for step in (0, STEPS))
    return ops.fake_quantize(x, low, high, low, high, STEPS + 1)


def _pair(n: int | tuple[int, ...] | str) -> list[int]:
    assert not isinstance(n, str)
    return [n, n] if isinstance(n, int) else list(n)
