"""One daemon thread for blocking work on the device, awaited from the event loop.

`ThreadPoolExecutor` hides whether its thread is still alive, which the batcher must know. A call whose thread died or hangs
never returns; the batcher watches `alive` and replaces the whole DeviceThread.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: asyncio.Future[Any]


class DeviceThread:
    """Runs calls one at a time, in order."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="lrid-device", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Queue a call; the future belongs to the running event loop."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(function, arguments, future))
        return future

    def close(self) -> None:
        """End the thread after the queued calls. Does not wait."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                result = call.function(*call.arguments)
            except Exception as error:
                _deliver(call.future, None, error)
            else:
                _deliver(call.future, result, None)


def _deliver(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    def settle() -> None:
        if future.done():
            return  # the caller left
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop has closed: no caller waits
        future.get_loop().call_soon_threadsafe(settle)
