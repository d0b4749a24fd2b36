"""A batcher on a real event loop with a device made of numbers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np

from app.domain import FloatArray, Window
from app.serving.batcher import Batcher, WindowFeatures
from app.serving.metrics import Metrics
from app.settings import Settings

T = TypeVar("T")

N_SAMPLES, N_FEATURES = 4, 3
PATIENCE_SECONDS = 30.0


class Device:
    """A `listen` for windows that are numbers: window 7 gives the features (7, 14, 49).

    `passes` are the windows of each pass. While held, a pass waits. `faults` maps a window to what happens to every
    pass that it is in. The batcher's own probe is window 0.
    """

    def __init__(self, faults: dict[int, Callable[[list[int], FloatArray], FloatArray]] | None = None) -> None:
        self.faults = faults or {}
        self.passes: list[list[int]] = []
        self._free = threading.Event()
        self._free.set()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def __call__(self, windows: list[FloatArray]) -> FloatArray:
        numbers = [int(window[0]) for window in windows]
        self.passes.append(numbers)
        assert self._free.wait(PATIENCE_SECONDS)
        rows = np.stack([features_of(number) for number in numbers])
        for number in numbers:
            if fault := self.faults.get(number):
                rows = fault(numbers, rows)
        return rows

    @property
    def heard(self) -> set[int]:
        return {number for numbers in self.passes for number in numbers}


def features_of(number: int) -> FloatArray:
    return np.array([number, 2 * number, number**2], np.float32)


def fail(numbers: list[int], rows: FloatArray) -> FloatArray:
    raise ValueError("told to fail")


def give_nan(poison: int) -> Callable[[list[int], FloatArray], FloatArray]:
    def fault(numbers: list[int], rows: FloatArray) -> FloatArray:
        rows[numbers.index(poison), 1] = np.nan
        return rows

    return fault


def lose_a_row(numbers: list[int], rows: FloatArray) -> FloatArray:
    return rows[:-1]


def die(numbers: list[int], rows: FloatArray) -> FloatArray:
    raise SystemExit


def window(number: int, seconds: float = 30.0) -> Window:
    return Window(0.0, seconds, np.full(N_SAMPLES, number, np.float32))


@asynccontextmanager
async def batching(device: Callable[[list[FloatArray]], FloatArray], **settings: Any) -> AsyncIterator[Batcher]:
    """A started batcher; stopped in the end. `batcher.metrics` is set for the tests' sake."""
    usual = {
        "max_batch_size": 8,
        "queue_max_items": 1000,
        "queue_max_audio_seconds": 1e6,
        "device_timeout_seconds": PATIENCE_SECONDS,
    }
    metrics = Metrics()
    batcher = Batcher(device, N_SAMPLES, N_FEATURES, Settings().model_copy(update=usual | settings), metrics)
    batcher.metrics = metrics  # type: ignore[attr-defined]
    batcher.start()
    try:
        yield batcher
    finally:
        if isinstance(device, Device):
            device.release()
        await batcher.stop()


def ask(batcher: Batcher, *numbers: int, seconds: float = 1000.0) -> asyncio.Task[WindowFeatures]:
    """One request of these windows, on its way."""
    deadline = asyncio.get_running_loop().time() + seconds
    return asyncio.create_task(batcher.listen([window(number) for number in numbers], deadline))


async def ask_while_busy(batcher: Batcher, device: Device, numbers: Iterable[int]) -> list[asyncio.Task[WindowFeatures]]:
    """One request a number, all waiting for a device that is held by window 99, the first of the tasks."""
    device.hold()
    first = ask(batcher, 99)
    await until(lambda: bool(device.passes) and device.passes[-1] == [99])
    return [first, *(ask(batcher, number) for number in numbers), await _settled()][:-1]


async def _settled() -> Any:
    """Let the tasks just made reach the queue."""
    await asyncio.sleep(0.05)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for happens on another thread
            await asyncio.sleep(0.005)


def value(batcher: Batcher, name: str) -> float:
    """A number of the batcher's metrics."""
    found = batcher.metrics.registry.get_sample_value(name)  # type: ignore[attr-defined]
    assert found is not None
    return found


def run(work: Coroutine[Any, Any, T]) -> T:
    """`work` on an event loop of its own, which must not complain: unhandled exceptions of tasks fail the test."""
    complaints: list[dict[str, Any]] = []

    async def main() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            return await work

    result = asyncio.run(main())
    assert not complaints, complaints
    return result


def outcomes(results: Sequence[Any]) -> list[Any]:
    """Features as lists, errors as their classes."""
    return [type(r) if isinstance(r, BaseException) else r.features[:, 0].tolist() for r in results]
