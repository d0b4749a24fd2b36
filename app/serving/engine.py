"""Runs the listener on its device, in the fastest precision that reproduces the release's golden answers.

On a CPU every window is a pass of its own, so that an answer is the same to the bit whatever its batch. A single window gets
all threads; several windows run in parallel on one thread each, because threads that share a window wait for each other at
the end of every layer. On a GPU a batch is one pass.
"""

import importlib.util
import logging
import timeit
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.contract import Backend, Listen, Listener, Precision, Target
from app.serving.scheduling import lower_thread_priority
from app.serving.threads import Threads
from app.settings import Settings

log = logging.getLogger("lrid.engine")

CUDA_BATCH_WINDOWS = 64
_PROBES = 7
_CLEARLY = 0.8  # of fp32's time


class Engine:
    """Blocking; one thread at a time."""

    def __init__(self, listener: Listener, target: Target) -> None:
        """Raises ReleaseError where the listener cannot be prepared for the target."""
        self.target = target
        self.batch_size = target.threads if target.device == "cpu" else CUDA_BATCH_WINDOWS  # a larger batch is not faster
        self._device = torch.device(target.device)
        self._threads = target.threads  # of a single window
        self._is_torch = target.backend == "torch"  # else the front end has one thread: others would spin beside OpenVINO's
        lower_thread_priority()  # a backend starts threads of its own, which inherit the priority
        self._listen = listener.prepare(target)
        one_thread = replace(target, threads=1)
        on_one_thread = self._listen if target.threads == 1 or self._device.type != "cpu" else listener.prepare(one_thread)
        self._listen_on_one_thread = partial(_listen_to_one, on_one_thread, 1)
        self._pool = Threads(*(f"lrid-model-{number}" for number in range(target.threads)))

    def listen(self, windows: list[FloatArray]) -> FloatArray:
        """n windows, each (samples,) float32 → (n, features) float32."""
        if self._device.type != "cpu":
            return self._listen_on_device(windows)
        if len(windows) == 1 and self._threads > 1:
            return _listen_to_one(self._listen, self._threads if self._is_torch else 1, windows[0])
        if len(windows) == 1:
            return self._listen_on_one_thread(windows[0])
        return np.concatenate(self._pool.map(self._listen_on_one_thread, windows))

    def settle(self, n_samples: int) -> None:
        """On a CPU, check that a window gets the same answer alone and in a batch; else a single one gets one thread too."""
        if self._device.type != "cpu" or self._threads == 1:
            return
        noise = np.random.default_rng(0).standard_normal(n_samples, np.float32) * np.float32(0.1)
        if not np.array_equal(self.listen([noise]), self.listen([noise, noise])[:1]):
            log.warning("the number of threads changes answers here: every window gets one")
            self._threads = 1

    @torch.inference_mode()
    def _listen_on_device(self, windows: list[FloatArray]) -> FloatArray:
        batch = torch.from_numpy(np.stack(windows)).pin_memory().to(self._device, non_blocking=True)
        return self._listen(batch).cpu().numpy()  # (n, features)


@torch.inference_mode()
def _listen_to_one(listen: Listen, threads: int, window: FloatArray) -> FloatArray:
    """(samples,) → (1, features). The number of threads and the priority are properties of the calling thread."""
    lower_thread_priority()
    torch.set_num_threads(threads)
    return listen(torch.from_numpy(window)[None]).numpy()


def targets(listener: Listener, settings: Settings) -> list[Target]:
    """Resolve `auto`, most preferred first; of precisions, those clearly faster than fp32 here. Raises ReleaseError."""
    device, precision = settings.device, settings.precision
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise ReleaseError("device=cuda was asked for, and no CUDA device is available; use device=auto or cpu")
    if device != "cpu" and torch.cuda.is_available():
        wanted = dict.fromkeys([_on_cuda(precision), *(("fp32",) if precision == "auto" else ())])
        return [Target("cuda", each) for each in wanted]
    runs = _cpu_backend(settings.engine)
    possible = listener.precisions(runs)
    if precision not in {"auto", *possible}:
        raise ReleaseError(
            f"precision={precision} was asked for, and this release runs in {', '.join(possible)} on a CPU with {runs}; "
            "use one of these, or precision=auto"
        )
    suitable = [p for p in possible if p == precision or (precision == "auto" and (p != "bf16" or _bf16_is_fast()))]
    return [Target("cpu", each, runs, torch.get_num_threads()) for each in suitable]


def _on_cuda(precision: Precision | Literal["auto"]) -> Precision:
    if precision == "int8":
        raise ReleaseError("precision=int8 was asked for, which runs on a CPU only; use device=cpu, or another precision")
    if precision != "auto":
        return precision
    return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"  # Ampere and later multiply bf16


def _cpu_backend(backend: str) -> Backend:
    has_openvino = importlib.util.find_spec("openvino") is not None
    if backend == "openvino" and not has_openvino:
        raise ReleaseError(
            "engine=openvino was asked for, and it is not installed; run `pip install openvino`, or use engine=torch"
        )
    return "openvino" if has_openvino and backend != "torch" else "torch"


def _bf16_is_fast() -> bool:
    """Whether a product in bf16 is clearly faster than in fp32, so that every start on a machine chooses the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more threads, other processes on the machine would disturb the measurement
    try:
        fp32, bf16 = (_best_seconds(_product(dtype)) for dtype in (torch.float32, torch.bfloat16))
    finally:
        torch.set_num_threads(threads)
    log.info("one matrix product here: fp32 %.2f ms, bf16 %.2f ms", fp32 * 1e3, bf16 * 1e3)
    return bf16 < _CLEARLY * fp32


def _product(dtype: torch.dtype) -> Callable[[], object]:
    x, weight = torch.zeros(500, 512, dtype=dtype), torch.zeros(2048, 512, dtype=dtype)  # 1 GFLOP
    return lambda: torch.nn.functional.linear(x, weight)


@torch.inference_mode()
def _best_seconds(work: Callable[[], object]) -> float:
    return min(timeit.repeat(work, number=1, repeat=_PROBES))
