"""Who gets a core first where there are fewer cores than work: the event loop, before trunk and decoders.

The loop needs a core for moments only, but every refusal, every answer about metadata and every upload waits for them. The
scheduler would let it wait for those that compute without end. On Linux each thread has a priority of its own, and may
lower it without any rights; threads that it starts (OpenMP's) inherit it. On an idle machine nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

STEPS = 5  # of nice: a third of the weight of the event loop


def step_back() -> None:
    """Put the calling thread behind the main thread. Does nothing in that itself, and where it is forbidden."""
    if sys.platform != "linux" or threading.current_thread() is threading.main_thread():
        return
    nice = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + STEPS, 19)
    if os.getpriority(os.PRIO_PROCESS, 0) < nice:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, nice)
