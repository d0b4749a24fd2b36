"""Memory back to the system. glibc keeps what was freed: 150 MB of a release's loading, or end, and more with every peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys


def give_back() -> None:
    """After a release was loaded or dropped, whose objects refer to each other. Blocking, 0.1 s."""
    gc.collect()
    trim()


def trim() -> None:
    """Blocking, some 10 ms, in which other threads run. Does nothing where the C library has no such call."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
