"""A listener on a GPU: passes captured for a few sizes, and copies that hide behind them.

A batch goes through in parts. While the device listens to one part, the CPU lays the next one into pinned memory and a
second stream copies it over, so that only the first part's copy is waited for. A pass is captured once for each size and
replayed, because to launch its kernels one by one, well over a hundred, can take the CPU longer than a small part takes the
GPU; what does not fill a size is padded up to the next. It runs on a CPU too, uncaptured and in order: so it is tested
without a GPU.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.domain import FloatArray

SIZES = (1, 2, 4, 8, 16)  # windows in a pass; 16 of 30 s are as much as a hundred of the images ResNets are made for

_WARM_UP = 3  # passes before the capture: libraries choose their kernels and take their memory
_PROBES = 5
_CLOSE = 0.05  # of the largest feature: what bf16's rounding may change between two kernels, and no defect of a pass

log = logging.getLogger("lrid.pipeline")


def parts(n: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """n windows as (how many, size of their pass): parts of the largest size, and the rest in the least that holds it."""
    largest = max(sizes)
    whole, rest = divmod(n, largest)
    last = [(rest, min(size for size in sizes if size >= rest))] if rest else []
    return [(largest, largest)] * whole + last


class _Slot:
    """A part on its way to the device; there are two, so that one is filled while the other is listened to."""

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self.pinned = torch.zeros(shape, pin_memory=device.type == "cuda")
        self.rows: FloatArray = self.pinned.numpy()  # the same memory
        self.samples = torch.zeros(shape, device=device)
        module = torch.get_device_module(device)
        self.copied = module.Event()  # all of `pinned` is on the device
        self.taken = module.Event()  # the pass has its input, `samples` may be written over


class Pipeline:
    """Blocking. Calls from several threads wait for each other, also for one that hung and comes back late."""

    @torch.inference_mode()
    def __init__(self, listener: nn.Module, n_samples: int, device: torch.device, sizes: Sequence[int] = SIZES) -> None:
        """`listener` is on `device` and maps (n, n_samples) to (n, features). Raises what PyTorch raises where it cannot be
        captured.
        """
        self._listener = listener
        self._device = device
        self._module = torch.get_device_module(device)
        self._lock = threading.Lock()
        self._passes, self._copies = self._module.Stream(), self._module.Stream()
        shape = (max(sizes), n_samples)
        self._slots = (_Slot(shape, device), _Slot(shape, device))
        self._input = torch.zeros(shape, device=device)
        self._steps: dict[int, tuple[Callable[[], None], Tensor]] = {}  # by size: a pass, and where it leaves its features
        self._module.synchronize()  # with the stream that zeroed all this
        pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None  # one: passes do not overlap
        for size in sorted(sizes, reverse=True):
            self._steps[size] = self._captured(size, pool)

    @torch.inference_mode()
    def __call__(self, windows: Sequence[FloatArray]) -> FloatArray:
        """n windows, each (n_samples,) float32 → (n, features) float32."""
        with self._lock:
            found, begin = [], 0
            for number, (n, size) in enumerate(parts(len(windows), list(self._steps))):
                slot = self._slots[number % 2]
                self._bring(slot, windows[begin : begin + n])
                found.append(self._listen_to(slot, n, size))
                begin += n
            with self._module.stream(self._passes):
                return torch.cat(found).cpu().numpy()  # waits for the passes

    def _bring(self, slot: _Slot, windows: Sequence[FloatArray]) -> None:
        """Into pinned memory now; to the device when the part that was in the slot has been taken."""
        slot.copied.synchronize()
        for row, window in zip(slot.rows, windows, strict=False):
            row[:] = window
        with self._module.stream(self._copies):
            self._copies.wait_event(slot.taken)
            slot.samples[: len(windows)].copy_(slot.pinned[: len(windows)], non_blocking=True)
            slot.copied.record(self._copies)

    def _listen_to(self, slot: _Slot, n: int, size: int) -> Tensor:
        """Queues the pass. Rows beyond `n` are whatever was there before; no layer looks across rows."""
        step, features = self._steps[size]
        with self._module.stream(self._passes):
            self._passes.wait_event(slot.copied)
            self._input[:n].copy_(slot.samples[:n])
            slot.taken.record(self._passes)
            step()
            return features[:n].clone()

    def _captured(self, size: int, pool: Any) -> tuple[Callable[[], None], Tensor]:
        samples = self._input[:size]
        # cuDNN tries its kernels out for the size that a busy device runs; with all of them loading would take long.
        with self._module.stream(self._passes), _cudnn_benchmark(size == len(self._input)):
            for _ in range(_WARM_UP):
                features: Tensor = self._listener(samples)
        if self._device.type != "cuda":
            return lambda: _write_over(features, self._listener(samples)), features
        self._passes.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Thread-local: while a release is loaded, the one before it goes on listening in another thread.
        with torch.cuda.graph(graph, pool=pool, stream=self._passes, capture_error_mode="thread_local"):
            captured: Tensor = self._listener(samples)
        return graph.replay, captured


@contextlib.contextmanager
def _cudnn_benchmark(on: bool) -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _write_over(old: Tensor, new: Tensor) -> None:
    old.copy_(new)


def fastest(listeners: Sequence[nn.Module], n_samples: int, device: torch.device) -> Pipeline | None:
    """Of several listeners that should give the same, the one that is fastest here; the first says what is right.

    One that cannot be captured, or answers otherwise in a pass of any size, is left out, with a line in the log. None if
    all are.
    """
    probe = [_probe(number, n_samples) for number in range(max(SIZES))]
    with torch.inference_mode():
        expected = np.concatenate([listeners[0](torch.from_numpy(w)[None].to(device)).cpu().numpy() for w in probe])
    best: tuple[float, Pipeline] | None = None
    for number, listener in enumerate(listeners):
        try:
            seconds, pipeline = _tried(listener, probe, expected, device)
        except Exception as error:  # whatever it is, there is another way
            log.warning("listener %d of %d is not used in captured passes: %s", number + 1, len(listeners), error)
            continue
        log.info("listener %d of %d: %.2f ms for %d windows", number + 1, len(listeners), 1e3 * seconds, len(probe))
        if best is None or seconds < best[0]:
            best = seconds, pipeline
    return None if best is None else best[1]


def _probe(number: int, n_samples: int) -> FloatArray:
    """(n_samples,) a tone in noise; each number's is another, so that rows which were mixed up would show."""
    noise = np.random.default_rng(number).standard_normal(n_samples, np.float32)
    tone = np.sin(np.arange(n_samples, dtype=np.float32) * np.float32(0.02 * 1.3**number))
    sound: FloatArray = noise * np.float32(0.01) + tone * np.float32(0.5 / (1 + number))
    return sound


def _tried(
    listener: nn.Module, probe: list[FloatArray], expected: FloatArray, device: torch.device
) -> tuple[float, Pipeline]:
    """Seconds of a pass over all of the probe, and what makes it. Raises ValueError if it answers otherwise."""
    pipeline = Pipeline(listener, len(probe[0]), device)
    for n in SIZES:
        error = float(np.abs(pipeline(probe[:n]) - expected[:n]).max())
        if not error <= _CLOSE * float(np.abs(expected).max()):  # also for NaN
            raise ValueError(f"a pass over {n} windows differs by {error:.3g}")
    best = float("inf")
    for _ in range(_PROBES):
        started = time.perf_counter()
        pipeline(probe)
        best = min(best, time.perf_counter() - started)
    return best, pipeline
