"""Threads that compute run at a lower priority than the event loop; without privileges, no error where forbidden."""

import os
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from app.families.contract import Target
from app.serving.engine import Engine
from app.serving.scheduling import NICE_INCREMENT, lower_thread_priority
from tests.releases import tiny_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")


def nice() -> int:
    """Of the calling thread."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def in_a_thread(work: Callable[[], object]) -> int:
    """The thread's priority after `work`."""
    found: list[int] = []

    def run() -> None:
        work()
        found.append(nice())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def behind() -> int:
    return min(nice() + NICE_INCREMENT, 19)


def twice() -> None:
    lower_thread_priority()
    lower_thread_priority()


def test_a_thread_lowers_its_priority_once() -> None:
    assert in_a_thread(lower_thread_priority) == behind()
    assert in_a_thread(twice) == behind()


def test_the_main_thread_stays_where_it_is() -> None:
    before = nice()
    lower_thread_priority()
    assert nice() == before


def test_where_it_is_forbidden_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    assert in_a_thread(lower_thread_priority) == nice()


def test_threads_that_listen_lower_their_priority() -> None:
    model = tiny_model(listen={"window_seconds": 1.0})
    assert model.audio is not None
    engine = Engine(model.audio.listener, Target("cpu", "fp32"))
    window = np.zeros(model.audio.window.window_samples, np.float32)
    before = nice()
    assert in_a_thread(lambda: engine.listen([window])) == behind()
    engine.listen([window] * 3)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("lrid-model")]
    assert behind() in {os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in threads}
    assert nice() == before
