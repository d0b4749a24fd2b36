"""One daemon thread for blocking work on the device, awaited from the event loop.

`ThreadPoolExecutor` hides whether its thread is still alive, which the batcher must know. A call whose thread died or hangs
never returns; the batcher watches `alive` and replaces the whole DeviceThread.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any


class DeviceThread:
    """Runs calls one at a time, in order."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="lrid-device", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Queue a call; the future belongs to the running event loop."""
        future: Future[Any] = Future()
        self._calls.put((partial(function, *arguments), future))
        return asyncio.wrap_future(future)

    def close(self, wait_seconds: float = 0.0) -> None:
        """End the thread after the queued calls, and wait so long for that."""
        self._calls.put(None)
        self._thread.join(wait_seconds)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            if not future.set_running_or_notify_cancel():
                continue  # the caller left
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)
