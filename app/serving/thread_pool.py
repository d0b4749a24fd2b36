"""A pool of daemon threads. Python waits for a `ThreadPoolExecutor` at exit, even if one of its threads hangs."""

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

END_SECONDS = 1.0  # a thread that waits for work ends within milliseconds
_Calls = queue.SimpleQueue[tuple[Callable[[Any], Any], Any, Future[Any]] | None]


class ThreadPool:
    """Applies one function to several items at once. The threads start with the first call and end with the object."""

    def __init__(self, n: int, function: Callable[[Any], Any]) -> None:
        self._n = n
        self._function = function
        self._calls: _Calls = queue.SimpleQueue()
        self._started = False

    def map(self, items: Sequence[Any]) -> list[Any]:
        """Results in the order of the items. Raises the error of the first that failed, once all have ended."""
        self._start()
        futures: list[Future[Any]] = [Future() for _ in items]
        for item, future in zip(items, futures, strict=True):
            self._calls.put((self._function, item, future))
        wait(futures)
        return [future.result() for future in futures]

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        threads = [
            threading.Thread(target=_work, args=(self._calls,), name=f"lrid-model-{number}", daemon=True)
            for number in range(self._n)
        ]
        for thread in threads:
            thread.start()
        # Not at exit: each thread holds an inference request of OpenVINO, which crashes if it is freed while Python ends.
        weakref.finalize(self, _end, self._calls, threads).atexit = False


def _work(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        function, item, future = call
        try:
            future.set_result(function(item))
        except BaseException as error:  # also SystemExit: the caller gets it, and the thread stays
            future.set_exception(error)
        del call, function, item, future  # they refer to the owner of the pool, which may be dropped while this thread waits


def _end(calls: _Calls, threads: Sequence[threading.Thread]) -> None:
    """Waits for them, since the process may end next."""
    for _ in threads:
        calls.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(END_SECONDS)
