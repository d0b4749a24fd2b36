"""The trunk as OpenVINO runs it on a CPU: the extra `openvino`. Same weights, same answers within the precision."""

from __future__ import annotations

import importlib
import threading
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


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


def compile_trunk(
    trunk: nn.Module, shape: tuple[int, int, int, int], precision: str, threads: int
) -> list[OpenVinoTrunk]:
    """A folded fp32 trunk on all threads together, and on one thread for each of as many windows side by side.

    For int8 it is the `quantised` one. Raises ImportError without the extra.
    """
    openvino: Any = importlib.import_module("openvino")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # OpenVINO traces by a way that torch calls deprecated
        model = openvino.convert_model(trunk, example_input=torch.zeros(shape), input=[list(shape)])
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
