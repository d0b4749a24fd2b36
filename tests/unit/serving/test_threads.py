"""Threads: side by side, in order, an error for the caller, and none left behind."""

import gc
import subprocess
import sys
import threading
import time

import pytest

from app.serving.threads import Threads


def lane_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("lrid-model")}


def threads(n: int) -> Threads:
    return Threads(*(f"lrid-model-{number}" for number in range(n)))


def test_side_by_side_and_in_order() -> None:
    together = threading.Barrier(3, timeout=20)  # passes only if three calls run at once

    def work(item: int) -> int:
        together.wait()
        return item * item

    assert threads(3).map(work, [3, 1, 2]) == [9, 1, 4]


def test_more_items_than_threads() -> None:
    assert threads(2).map(lambda item: -item, list(range(9))) == [-item for item in range(9)]


def test_an_error_comes_out_after_all_have_ended_and_the_next_call_works() -> None:
    ended = []

    def work(item: int) -> int:
        if item == 0:
            raise ValueError("zero")
        time.sleep(0.1)
        ended.append(item)
        return item

    pool = threads(2)
    with pytest.raises(ValueError, match="zero"):
        pool.map(work, [0, 1])
    assert ended == [1]
    assert pool.map(work, [2, 3]) == [2, 3]


def test_what_would_end_a_lane_reaches_the_caller_and_the_lane_stays() -> None:
    def work(item: int) -> int:
        if item == 0:
            raise SystemExit
        return item

    pool = threads(1)
    with pytest.raises(SystemExit):
        pool.map(work, [0, 1])
    assert pool.map(work, [2]) == [2]


def test_threads_start_with_the_first_call_and_end_with_the_object() -> None:
    others = lane_threads()
    pool = threads(2)
    assert not lane_threads() - others
    pool.map(abs, [-1])
    own = lane_threads() - others
    assert len(own) == 2
    del pool
    gc.collect()
    assert not any(thread.is_alive() for thread in own)  # at once: the process may end next


AT_EXIT = """
import atexit, threading, time

def look() -> None:
    time.sleep(0.3)
    print(sum(thread.name.startswith("lrid-model") for thread in threading.enumerate()))

atexit.register(look)  # the first to be registered is the last to be called

from app.serving.threads import Threads
pool = Threads("lrid-model-0", "lrid-model-1")
pool.map(abs, [1, 2])
"""


def test_at_exit_no_thread_wakes() -> None:
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "2\n"
