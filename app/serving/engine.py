"""The listener on its device: BatchNorm folded, channels last, in the precision that is fastest here and still right.

On a CPU every window is a pass of its own: a window has 52.9 GFLOP, batching them gains nothing there, and so an answer is
bit for bit the same whatever it was batched with. A lone window has all threads; several go side by side on one thread
each, because threads that share a window wait for each other at the end of every layer. On a GPU see `pipeline`.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from app.domain import FloatArray
from app.serving.pipeline import SIZES, Pipeline, fastest
from app.serving.scheduling import lower_thread_priority
from app.serving.thread_pool import ThreadPool

log = logging.getLogger("lrid.engine")

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Backend = Literal["torch", "openvino"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


_PROBES = 7
_CLEARLY = 0.8  # of fp32's time


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What `Engine` decided."""

    device: Literal["cpu", "cuda"]
    precision: Precision
    batch_size: int  # windows in a pass beyond which nothing is gained
    backend: Backend = "torch"  # what runs the trunk; openvino on CPUs only


class Engine:
    """Blocking; one thread at a time."""

    def __init__(self, listener: nn.Module, choice: EngineChoice) -> None:
        """`listener` maps (n, samples) to (n, features), takes its own precision from its trunk, and is not changed."""
        self.choice = choice
        self._device = torch.device(choice.device)
        self._threads = torch.get_num_threads()  # of a lone window
        self._listener, self._lane_listener = _listeners(listener, choice, self._threads)
        listen_in_lane = partial(_listen_to_one, self._lane_listener, 1)
        self._pool = ThreadPool[FloatArray, FloatArray](self._threads, listen_in_lane)
        self._pipeline: Pipeline | None = None

    @property
    def captured(self) -> bool:
        """Whether it replays captured passes, as it should on a GPU once settled."""
        return self._pipeline is not None

    def listen(self, windows: list[FloatArray]) -> FloatArray:
        """n windows, each (samples,) float32 → (n, features) float32."""
        if self._pipeline is not None:
            return self._pipeline(windows)
        if self._device.type != "cpu":
            return self._listen_on_device(windows)
        if len(windows) == 1:
            listener = self._lane_listener if self._threads == 1 else self._listener
            return _listen_to_one(listener, self._threads, windows[0])
        return np.concatenate(self._pool.map(windows))

    def settle(self, n_samples: int) -> None:
        """Before the first window is listened to for anyone.

        On a GPU: capture passes, and keep those that are fastest; where none can be, each batch is one plain pass.
        On a CPU: make sure that a window has the same answer alone and beside others, to the bit. Threads share out a
        layer's outputs, not its sums, so it has. Should a machine or a library do otherwise, a lone window gets one
        thread as well: slower, and the same.
        """
        if self._device.type != "cpu":
            listeners = dict.fromkeys([self._listener, _fused(self._listener, self._threads)])  # one if there is none
            self._pipeline = fastest(list(listeners), n_samples, self._device)
            return
        if self._threads == 1:
            return
        noise = np.random.default_rng(0).standard_normal(n_samples, np.float32) * np.float32(0.1)
        if not np.array_equal(self.listen([noise]), self.listen([noise, noise])[:1]):
            log.warning("the number of threads changes answers here: every window gets one")
            self._threads = 1

    @torch.inference_mode()
    def _listen_on_device(self, windows: list[FloatArray]) -> FloatArray:
        batch = torch.from_numpy(np.stack(windows)).pin_memory().to(self._device, non_blocking=True)
        features: Tensor = self._listener(batch)  # (n, features)
        return features.cpu().numpy()


@torch.inference_mode()
def _listen_to_one(listener: nn.Module, threads: int, window: FloatArray) -> FloatArray:
    """(samples,) → (1, features), on so many threads: their number and priority belong to the calling thread."""
    lower_thread_priority()
    torch.set_num_threads(threads)
    features: Tensor = listener(torch.from_numpy(window)[None])
    return features.numpy()


def _prepare(listener: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A folded copy; the front end stays fp32, the trunk gets `dtype`."""
    folded = fold_batch_norm(copy.deepcopy(listener)).to(device)
    folded.trunk = folded.trunk.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded.eval()


def _listeners(listener: nn.Module, choice: EngineChoice, threads: int) -> tuple[nn.Module, nn.Module]:
    """For a lone window or a whole batch; and, on a CPU, for one window on one thread."""
    device = torch.device(choice.device)
    if choice.backend == "openvino" and hasattr(listener, "by_openvino"):
        lower_thread_priority()  # it starts threads of its own, which inherit the priority
        alone, in_lane = _prepare(listener, device, torch.float32).by_openvino(choice.precision, threads)  # type: ignore[operator]
        return alone, in_lane
    folded = _prepare(listener, device, DTYPES[choice.precision])
    if device.type != "cpu":
        return folded, folded
    fused = _fused(folded, threads)
    return fused, fused if threads == 1 else _fused(folded, 1)


def _fused(folded: nn.Module, threads: int) -> nn.Module:
    """What the listener makes of itself for passes on so many threads: oneDNN lays weights out for their number."""
    fuse = getattr(folded, "fused", None)
    if fuse is None:
        return folded
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fused: nn.Module = fuse()
    finally:
        torch.set_num_threads(before)
    return fused


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every BatchNorm2d into the convolution before it, in place. Pairs: conv*/bn* attributes, and Sequential."""
    for child in module.modules():
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
            child[0] = _fuse(child[0], child[1])
            child[1] = nn.Identity()
            continue
        for name, norm in list(child.named_children()):
            if isinstance(norm, nn.BatchNorm2d) and name.startswith("bn"):
                conv = name.replace("bn", "conv")
                setattr(child, conv, _fuse(getattr(child, conv), norm))
                setattr(child, name, nn.Identity())
    return module


def _fuse(conv: nn.Module, norm: nn.Module) -> nn.Module:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def choose(*, device: str, precision: str, threads: int, backend: str = "auto") -> EngineChoice:
    """Settle `auto`: CUDA where there is one; on a CPU OpenVINO if it is installed, and the faster of fp32 and bf16, by a
    short measurement. int8 is never chosen, only asked for: its rounding is coarser.

    Raises ValueError when CUDA or OpenVINO is asked for and there is none, and for int8 where it cannot run.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if backend == "openvino" and not has_openvino:
        raise ValueError("engine=openvino was asked for, and it is not installed; install the extra `openvino`")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda was asked for, and no CUDA device is available; use device=auto or cpu")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if precision == "int8" and (on_gpu or backend == "torch" or not has_openvino):
        raise ValueError(
            "precision=int8 was asked for, which only OpenVINO runs, and only on a CPU; install the extra `openvino` and "
            "use device=cpu and engine=auto, or another precision"
        )
    if threads:
        torch.set_num_threads(threads)
    if on_gpu:
        native = torch.cuda.get_device_capability() >= (8, 0)  # Ampere and later multiply bf16
        chosen: Precision = ("bf16" if native else "fp16") if precision == "auto" else precision  # type: ignore[assignment]
        return EngineChoice("cuda", chosen, batch_size=4 * max(SIZES))  # the first part of four is waited for
    chosen = _faster_on_cpu() if precision == "auto" else precision  # type: ignore[assignment]
    runs: Backend = "openvino" if has_openvino and backend != "torch" else "torch"
    return EngineChoice("cpu", chosen, batch_size=torch.get_num_threads(), backend=runs)


def _faster_on_cpu() -> Precision:
    """Time a convolution of the trunk's third stage in both precisions, on one thread, the best of several.

    bf16 must win clearly, so that the choice is the same at every start on the same machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more, what else runs on the machine would be measured
    try:
        seconds = {precision: _convolution_seconds(DTYPES[precision]) for precision in ("fp32", "bf16")}
    finally:
        torch.set_num_threads(threads)
    log.info("one convolution here: fp32 %.2f ms, bf16 %.2f ms", seconds["fp32"] * 1e3, seconds["bf16"] * 1e3)
    return "bf16" if seconds["bf16"] < _CLEARLY * seconds["fp32"] else "fp32"


@torch.inference_mode()
def _convolution_seconds(dtype: torch.dtype) -> float:
    x = torch.zeros(1, 256, 8, 162, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.zeros(256, 256, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)  # 1.5 GFLOP
    best = float("inf")
    for _ in range(_PROBES):
        started = time.perf_counter()
        torch.conv2d(x, weight, padding=1)
        best = min(best, time.perf_counter() - started)
    return best
