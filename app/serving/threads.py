"""Daemon threads for blocking work. Python waits for a `ThreadPoolExecutor` at exit, even if one of its threads hangs."""

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

END_SECONDS = 1.0  # a thread that waits for work ends within milliseconds
_Calls = queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], Future[Any]] | None]


class Threads:
    """Runs calls in order. The threads start with the first call and end with the object."""

    def __init__(self, *names: str) -> None:
        """A thread for each name."""
        self._calls: _Calls = queue.SimpleQueue()
        self._threads = [threading.Thread(target=_work, args=(self._calls,), name=name, daemon=True) for name in names]
        self._end = weakref.finalize(self, _end, self._calls, self._threads, END_SECONDS)
        # Not at exit: each thread holds an inference request of OpenVINO, which crashes if it is freed while Python ends.
        self._end.atexit = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Queue a call; the future belongs to the running event loop."""
        return asyncio.wrap_future(self._submit(function, *arguments))

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Results in the order of the items. Raises the error of the first that failed, once all have ended."""
        futures = [self._submit(function, item) for item in items]
        wait(futures)
        return [future.result() for future in futures]

    def close(self, wait_seconds: float = 0.0) -> None:
        """End the threads after the queued calls, and wait so long for each."""
        if self._end.detach():
            _end(self._calls, self._threads, wait_seconds)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._threads[0].ident is None:
            for thread in self._threads:
                thread.start()
        future: Future[Any] = Future()
        self._calls.put((function, arguments, future))
        return future


def _work(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        function, arguments, future = call
        if future.set_running_or_notify_cancel():  # else the caller left
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # also SystemExit: the caller gets it, and the thread stays
                future.set_exception(error)
        del call, function, arguments, future  # they refer to the owner, which may be dropped while this thread waits


def _end(calls: _Calls, threads: Sequence[threading.Thread], wait_seconds: float) -> None:
    """Waits for them, since the process may end next."""
    for _ in threads:
        calls.put(None)
    for thread in threads:
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join(wait_seconds)
