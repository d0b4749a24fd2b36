"""Dynamic batching: an idle device starts at once; windows that arrive meanwhile form the next batch.

Promises, each with a test. A batch that fails, or the part of it that is not finite, is retried in halves, so that only the
faulty window fails. Windows whose client disconnected or whose deadline passed never reach the device. Out of memory halves
the batch size. A device thread that dies or hangs is replaced, also when the loop itself fails: callers get an error at
once, and readiness is false until the new thread has listened to silence.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from app.domain import FloatArray, Window
from app.errors import DeadlineExceeded, Draining, ModelFailed, NotReady, QueueFull
from app.serving.metrics import Metrics
from app.serving.queue import Item, WindowQueue
from app.serving.retry_after import RetryAfter
from app.serving.threads import Threads
from app.settings import Settings

log = logging.getLogger("lrid.batcher")

Turn = Callable[[], float]  # seconds after which a rejected client should return
Listen = Callable[[list[FloatArray]], FloatArray]  # blocking: n windows → (n, n_audio_features)

END_SECONDS = 2.0  # for which stopping waits for the device thread, which may hang


@dataclass(frozen=True, slots=True)
class WindowFeatures:
    """Features of the windows of one request, and the time they took."""

    features: FloatArray  # (n, n_audio_features), rows in the order given
    queue_seconds: float  # longest wait of a window before its batch started
    model_seconds: float  # from the start of the first batch to the last result


class DeviceLost(Exception):
    """The device thread died or hangs."""


class Batcher:
    """All methods run on one event loop; only `listen` runs on the device thread."""

    def __init__(self, listen: Listen, n_samples: int, n_features: int, settings: Settings, metrics: Metrics) -> None:
        """`n_samples` and `n_features`: sizes of one window before and after the device. `settings`: a batch has a size."""
        self._listen = listen
        self._n_features = n_features
        self._probe: FloatArray = np.zeros(n_samples, np.float32)
        self._timeout_seconds = settings.device_timeout_seconds
        self._company_seconds = settings.batch_wait_ms / 1000
        self._metrics = metrics
        self._queue = WindowQueue(settings.queue_max_items, settings.queue_max_audio_seconds, metrics)
        self._retry_after = RetryAfter(4 * settings.queue_max_items)  # room for several bursts
        self._arrived = asyncio.Event()
        self._device = _device_thread()
        self._task: asyncio.Task[None] | None = None
        self._batch_size = settings.max_batch_size
        self._running: list[Item] = []  # the current batch, until every window of it is settled
        self._restarts_in_a_row = 0
        self.seconds_per_window = 0.25  # smoothed; the first batch replaces this guess
        self._rate_is_guessed = True

    def start(self) -> None:
        self._task = asyncio.create_task(self._supervise(), name="batcher")

    async def stop(self) -> None:
        """End the loop and reject everything that still waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._reject_all(Draining("the server stopped before this request was answered"))
        await asyncio.to_thread(self._device.close, END_SECONDS)

    @property
    def healthy(self) -> bool:
        """Whether the loop runs, and the device thread is proven since it was last replaced."""
        return self._task is not None and not self._task.done() and not self._restarts_in_a_row

    def wait_seconds(self, extra_windows: float = 0) -> float:
        """Expected wait of a window that arrives now behind `extra_windows` more, from the load and the measured rate."""
        return (self._queue.n_items + len(self._running) + extra_windows) * self.seconds_per_window

    def check_room(
        self, n_items: int, audio_seconds: float, deadline: float, *, promised: float = 0, turn: Turn | None = None
    ) -> None:
        """Raises QueueFull, with a Retry-After computed from load and rate, if these windows would not be served.

        `promised` windows are still being decoded, but count as waiting. `turn` gives the Retry-After of more than these.
        """
        turn = turn or partial(self.retry_after_seconds, n_items)
        excess = self._queue.n_items + promised + n_items - self._queue.max_items
        if excess > 0 or not self._queue.fits(n_items, audio_seconds):
            raise QueueFull(
                f"{self._queue.n_items} windows wait for the device, which is the limit", retry_after_seconds=turn()
            )
        late = asyncio.get_running_loop().time() + self.wait_seconds(promised + n_items) - deadline
        if late > 0 and self.wait_seconds(promised) > 0:
            raise QueueFull(
                "the windows that wait would keep this request past its deadline", retry_after_seconds=max(late, turn())
            )

    def retry_after_seconds(self, n_items: float) -> float:
        """When to retry a request of `n_items` windows that is rejected now, behind those rejected before."""
        return max(1.0, self._retry_after.take(n_items, self.seconds_per_window, asyncio.get_running_loop().time()))

    async def listen(self, windows: Sequence[Window], deadline: float, *, begun: bool = False) -> WindowFeatures:
        """Features of every window, from one or more batches. Cancelling the caller removes its windows from the queue.

        `begun`: others of the track were listened to; these come before the first windows of other tracks.
        Raises QueueFull, DeadlineExceeded, ModelFailed, NotReady (the device was lost).
        """
        loop = asyncio.get_running_loop()
        self.check_room(len(windows), sum(window.seconds for window in windows), deadline)
        now = loop.time()
        items = [Item(w.samples, w.seconds, deadline, loop.create_future(), now, begun) for w in windows]
        for item in items:
            self._queue.put(item)
        self._arrived.set()
        try:
            async with asyncio.timeout_at(deadline):
                rows = await asyncio.gather(*(item.future for item in items))
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while windows waited for the device") from None
        finally:
            for item in items:
                item.future.cancel()
        starts = [item.started_at for item in items]
        return WindowFeatures(
            features=np.stack(rows), queue_seconds=max(starts) - now, model_seconds=loop.time() - min(starts)
        )

    async def _supervise(self) -> None:
        """Run the loop until it is cancelled."""
        while True:
            try:
                await self._loop()
            except DeviceLost as error:
                await self._replace_device(str(error))
            except Exception as error:
                log.exception("the batching loop failed")
                await self._replace_device(f"the batching loop failed ({type(error).__name__})")

    async def _loop(self) -> None:
        while True:
            await self._arrived.wait()
            if self._company_seconds:
                await self._wait_for_company()
            if batch := self._queue.take(self._batch_size, asyncio.get_running_loop().time()):
                self._running = batch
                await self._process(batch)
                self._running = []
            else:
                self._arrived.clear()

    async def _wait_for_company(self) -> None:
        """Wait for a full batch, or until the oldest window has waited `batch_wait_ms`."""
        while (oldest := self._queue.oldest) and self._queue.n_items < self._batch_size:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(oldest.enqueued_at + self._company_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                break
        self._arrived.set()

    async def _process(self, batch: list[Item]) -> None:
        """Run one pass; on failure retry in halves, until the faulty window is alone."""
        now = asyncio.get_running_loop().time()
        for item in batch:
            item.started_at = item.started_at or now
        self._metrics.batch_size.observe(len(batch))
        try:
            rows = await self._run_on_device([item.samples for item in batch])
        except DeviceLost:
            raise
        except Exception as error:
            await self._after_failure(batch, error)
        else:
            self._note_rate(asyncio.get_running_loop().time() - now, len(batch))
            if not_finite := _deliver(batch, rows):
                await self._after_failure(not_finite, ModelFailed("the model gave no finite numbers"))

    async def _run_on_device(self, samples: list[FloatArray]) -> FloatArray:
        """Raises DeviceLost when what ends a thread came out of the call, or the timeout passed."""
        call = self._device.call(self._listen, samples)
        done, _ = await asyncio.wait([call], timeout=self._timeout_seconds)
        if not done:
            raise DeviceLost(f"a batch took longer than {self._timeout_seconds:g} s")
        if isinstance(call.exception(), SystemExit):
            raise DeviceLost("the device thread died")
        rows: FloatArray = np.asarray(call.result(), np.float32)
        if rows.shape != (len(samples), self._n_features):
            raise ModelFailed(f"the model gave {rows.shape} for {len(samples)} windows")
        return rows

    async def _after_failure(self, batch: list[Item], error: Exception) -> None:
        out_of_memory = "out of memory" in str(error).lower() or isinstance(error, MemoryError)
        if out_of_memory and len(batch) > 1:
            self._batch_size = max(1, len(batch) // 2)
            log.warning("out of memory with %d windows; batches are now at most %d", len(batch), self._batch_size)
        if len(batch) == 1:
            log.error("a window failed alone", exc_info=error)
            _fail(batch, ModelFailed("the model failed on a window of this request"))
            return
        log.warning("a batch of %d failed and is tried in halves: %s", len(batch), type(error).__name__)
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            now = asyncio.get_running_loop().time()
            if wanted := [item for item in half if item.wanted(now)]:
                await self._process(wanted)

    async def _replace_device(self, reason: str) -> None:
        """Reject requests in flight at once, start a new thread, and turn healthy once it has listened to silence."""
        log.error("device lost: %s", reason)
        while True:
            self._restarts_in_a_row += 1
            self._metrics.device_restarts.inc()
            self._reject_all(NotReady(f"{reason}; it is being restarted", retry_after_seconds=2.0))
            self._device.close()
            await asyncio.sleep(min(30.0, 0.5 * 2 ** (self._restarts_in_a_row - 1)))
            try:
                self._device = _device_thread()
                await self._run_on_device([self._probe])
            except Exception:
                log.exception("the device is still lost after restart %d", self._restarts_in_a_row)
            else:
                log.info("device is back after restart %d", self._restarts_in_a_row)
                self._restarts_in_a_row = 0
                return

    def _reject_all(self, error: Exception) -> None:
        _fail(self._queue.clear() + self._running, error)
        self._running = []

    def _note_rate(self, seconds: float, n_windows: int) -> None:
        share = 1.0 if self._rate_is_guessed else 0.2
        self._rate_is_guessed = False
        self.seconds_per_window += share * (seconds / n_windows - self.seconds_per_window)


def _device_thread() -> Threads:
    return Threads("lrid-device")


def _deliver(batch: list[Item], rows: FloatArray) -> list[Item]:
    """Settle the items whose rows are finite; return the others whose callers still wait."""
    not_finite = []
    for item, row in zip(batch, rows, strict=True):
        if item.future.done():
            continue
        if np.isfinite(row).all():
            item.future.set_result(row)
        else:
            not_finite.append(item)
    return not_finite


def _fail(items: Sequence[Item], error: Exception) -> None:
    for item in items:
        if not item.future.done():
            item.future.set_exception(error)
