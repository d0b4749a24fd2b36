"""Scheduling of requests and threads: the event loop runs before the model and the decoders.

The event loop needs a core only for moments, but every rejection, every answer from metadata and every upload waits for it.
With equal priority, the operating system would let it wait for the threads that compute without pause. On Linux each thread
has its own priority and may lower it without privileges; threads that it starts (OpenMP's) inherit it. On an idle machine
this costs nothing.
"""

import asyncio
import contextlib
import os
import sys
import threading

NICE_INCREMENT = 5  # gives a thread a third of the weight of the event loop


def lower_thread_priority() -> None:
    """Lower the priority of the calling thread below the main thread's. No effect in the main thread or where forbidden."""
    if sys.platform != "linux" or threading.current_thread() is threading.main_thread():
        return
    nice = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICE_INCREMENT, 19)
    if os.getpriority(os.PRIO_PROCESS, 0) < nice:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def let_threads_sleep() -> None:
    """Limit busy-waiting of OpenMP threads: it costs 50 % more CPU time per window, on cores that the decoders need.

    About 20 µs of it stay, because most waits within a pass are shorter than a sleep. OpenMP reads the variables when torch
    is imported, which is later. Values that the operator has set stay.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


async def yield_to_others() -> None:
    """Let concurrent requests reach this point, then continue: requests advance stage by stage.

    The event loop then runs the same stage for several requests in a row, while its weights are in the CPU cache. Running
    each request to its end instead took nearly twice as long per name. A request that is alone continues at once.
    """
    await asyncio.sleep(0)
