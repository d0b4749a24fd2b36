"""Any torch module as OpenVINO runs it on a CPU: the extra `openvino`. Same weights, same answers within the precision.

OpenVINO's own converter reads the module by `torch.export`. It takes seconds, once per precision; by `torch.jit.trace` every
conversion would keep some 20 MB for as long as the process lives.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from app.families.contract import Precision

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class CompiledModule:
    """What a module does with one item, compiled. As many threads may call as it has streams, each by its own request."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._own = threading.local()

    def __call__(self, x: Tensor) -> Tensor:
        """(n, …) float32 → (n, …) float32, item by item: an answer does not depend on its neighbours."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        items = [request.infer({0: item.contiguous().numpy()})[0].copy() for item in torch.split(x, 1)]
        return torch.from_numpy(np.concatenate(items))


class Convertible:
    """A module written down for OpenVINO, in fp32 or with rounded layers, and compiled for as many targets as are wanted."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        """`shape` is that of one item, (1, …). The weights are not copied. Raises ImportError without the extra."""
        self._openvino = _import_openvino()
        self._model = _exporter().submit(_converted, self._openvino, module.eval(), shape).result()

    def compile(self, precision: Precision, threads: int) -> CompiledModule:
        """For an item on so many threads, and as many side by side as torch's threads suffice for.

        With int8, what is not rounded is bf16 where the CPU multiplies it.
        """
        core = self._openvino.Core()
        streams = max(1, torch.get_num_threads() // threads)
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS.get(precision) or _around_int8(core),
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
            "ENABLE_CPU_PINNING": False,  # decoders want to run on the same cores
        }
        return CompiledModule(core.compile_model(self._model, "CPU", settings))


@cache
def _exporter() -> ThreadPoolExecutor:
    """The one thread of this process that exports: torch 2.11 crashes when a second thread does."""
    return ThreadPoolExecutor(1, thread_name_prefix="torch-export")


def _converted(openvino: Any, module: nn.Module, shape: tuple[int, ...]) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)  # torch warns of what torch does
        return openvino.convert_model(torch.export.export(module, (torch.zeros(shape),)))


def _import_openvino() -> Any:
    """OpenVINO, without the package by which it reports its use to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def _around_int8(core: Any) -> str:
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
