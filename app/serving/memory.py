"""Memory back to the system. glibc keeps what was freed: 150 MB of a release's loading, or end, and more with every peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys


def release_memory() -> None:
    """After a release was loaded or dropped, whose objects refer to each other. Blocking, 0.1 s.

    What is alive then stays, so the collector leaves it alone from now on: to walk over a release and torch's 300,000
    objects stops every request for 0.1 s. Only the next call looks at them again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Blocking, some 10 ms, in which other threads run. Does nothing where the C library has no such call."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
