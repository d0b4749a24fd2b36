"""Return freed memory to the operating system: glibc keeps 150 MB after a release was loaded, and more with every peak."""

import contextlib
import ctypes
import gc
import re
import sys
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_MADV_DONTNEED = 4  # <sys/mman.h>
# In /proc/self/smaps: libraries and weights that cannot be written, and of which no page differs from the file.
_AS_IN_THE_FILE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) r-.. \S+ \S+ \d+ +/.*\.(?:so[.0-9]*|bin)\n(?:[A-Z].*\n)*?Anonymous: +0 kB$", re.MULTILINE
)
LARGE_BYTES = 1 << 21  # an upload
KEPT_BYTES = 1 << 23  # at the top of the heap
YOUNG_OBJECTS = 5_000


def return_large_blocks() -> None:
    """From now on a block of LARGE_BYTES goes back to the system when it is freed. No effect without glibc.

    glibc would raise that size to the largest block that was freed, up to 32 MB: what uploads left behind stayed. Smaller
    blocks, such as the samples of a window, are kept for the next: to map one anew costs a page fault for every 4 KB.
    """
    _glibc("mallopt", _MMAP_THRESHOLD, LARGE_BYTES)
    _glibc("mallopt", _TRIM_THRESHOLD, KEPT_BYTES)


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


def leave_files_to_the_page_cache() -> None:
    """Unmap the pages of libraries and weights that are as in their files: most of 700 MB are read while loading alone.

    What is needed again is mapped again, 16 pages at a time, from the system's page cache. Blocking, 0.1 s. Only for a time
    in which no other thread unmaps such files: what is mapped in their place meanwhile would lose its contents. No effect
    except on Linux.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            libc = ctypes.CDLL(None)
            for start, end in _AS_IN_THE_FILE.findall(Path("/proc/self/smaps").read_bytes()):
                first = int(start, 16)
                libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(int(end, 16) - first), _MADV_DONTNEED)


def trim() -> None:
    """Return free heap memory. Blocks for about 10 ms, in which other threads run. No effect without glibc."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    """Does nothing where there is no such function."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            getattr(ctypes.CDLL(None), function)(*arguments)
