"""What was freed goes back to the system, also from under what is still in use."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from app.serving.memory import release_memory, trim

PROGRAM = """
import psutil
from app.serving.memory import {name}

def resident_mb():
    return psutil.Process().memory_info().rss / 1e6

blocks = [bytes(2000) for _ in range(100_000)]
kept = blocks[::1000]
del blocks
before_mb = resident_mb()
{name}()
print(before_mb - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
@pytest.mark.parametrize("name", [trim.__name__, release_memory.__name__])
def test_pages_between_used_ones_go_back(name: str) -> None:
    """In a process of its own, whose heap is its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(name=name)], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 100  # of 200 MB


LARGE = """
import psutil
from app.serving.memory import return_large_blocks

def resident_mb():
    return psutil.Process().memory_info().rss / 1e6

return_large_blocks()
before_mb = resident_mb()
for _ in range(2):  # glibc learns from the blocks of the first round
    blocks = [b"x" * 3_000_000 for _ in range(40)]
    kept = [bytes(2000) for _ in range(1000)]
    del blocks
print(resident_mb() - before_mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_large_blocks_go_back_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40  # of 120 MB


def test_what_stays_is_not_walked_over_again_but_what_went_is_found() -> None:
    kept: list[object] = [{"a": []} for _ in range(1000)]
    try:
        release_memory()
        assert gc.get_freeze_count() >= 1000
        gone = Link()
        gone.other = gone
        seen = weakref.ref(gone)
        release_memory()  # frozen while it is alive
        del gone
        release_memory()
        assert seen() is None
    finally:
        gc.unfreeze()
    assert len(kept) == 1000


class Link:
    """Refers to itself: only the collector ends it."""

    other: object


FILES = """
import ctypes, mmap, sys
from pathlib import Path
from app.serving.memory import leave_files_to_the_page_cache

def resident_mb():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssFile"].split()[0]) / 1000

path = Path(sys.argv[1])
path.write_bytes(b"in the file" + bytes(60_000_000))
with path.open("rb") as file:
    read = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    changed = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
changed[:11] = b"of this one"
address = ctypes.addressof(ctypes.c_char.from_buffer(changed))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), mmap.PROT_READ) == 0  # as a loader does
assert sum(read[::4096]) > 0
before_mb = resident_mb()
leave_files_to_the_page_cache()
print(before_mb - resident_mb(), read[:11].decode(), changed[:11].decode(), sep=",")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_pages_that_are_as_in_their_file_are_unmapped_and_others_keep_their_contents(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILES, str(tmp_path / "mapped.bin")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    gone_mb, read, changed = done.stdout.strip().split(",")
    assert float(gone_mb) > 55  # of 60
    assert (read, changed) == ("in the file", "of this one")
