"""Memory back to the system. glibc keeps what a release's loading, or its end, has freed: some 150 MB for each."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys


def give_back() -> None:
    """Blocking, some milliseconds. Does nothing where the C library has no such call."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
