"""Return freed memory to the operating system: glibc keeps 150 MB after a release was loaded, and more with every peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGE_BYTES = 1 << 18  # an upload, or the samples of a window
KEPT_BYTES = 1 << 23  # at the top of the heap
YOUNG_OBJECTS = 5_000


def return_large_blocks() -> None:
    """From now on a block of LARGE_BYTES goes back to the system when it is freed. No effect without glibc.

    glibc would raise that size to the largest block that was freed, up to 32 MB: what uploads left behind stayed.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
            libc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


def release_memory() -> None:
    """Collect garbage after a release was loaded or dropped, since its objects refer to each other. Blocking, 0.1 s.

    Objects that survive are frozen: a later collection would stop every request for 0.1 s to visit a release and torch's
    300,000 objects. The next call of this function visits them again. From then on young objects are looked through after
    5,000 new ones, not 700: a request makes some hundred, and that was 3 % of a name's CPU.
    """
    gc.set_threshold(YOUNG_OBJECTS)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Return free heap memory. Blocks for about 10 ms, in which other threads run. No effect without glibc."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
