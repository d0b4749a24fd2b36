"""Return freed memory to the operating system: glibc keeps 150 MB after a release was loaded, and more with every peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys


def release_memory() -> None:
    """Collect garbage after a release was loaded or dropped, since its objects refer to each other. Blocking, 0.1 s.

    Objects that survive are frozen: a later collection would stop every request for 0.1 s to visit a release and torch's
    300,000 objects. The next call of this function visits them again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Return free heap memory. Blocks for about 10 ms, in which other threads run. No effect without glibc."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
