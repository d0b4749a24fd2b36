"""The decoding process: `python -m app.audio.worker SOCKET_FD MEMORY_MB MODULE:FUNCTION`. Started by `DecodePool` only.

It imports neither torch nor FastAPI, may add only so much memory to what it has at its start, writes no files and no
core, ignores the signals meant for the service, and ends when the service does.
"""

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from app.audio import wire
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Recording
from app.errors import AudioError

Loader = Callable[[bytes, WindowRequest, DecodeLimits], Recording]

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
# Behind the event loop, which needs a core for moments only. Not behind the trunk, which gets most done when windows wait.
_NICE = 5


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    memory_mb, (module, _, function) = int(sys.argv[2]), sys.argv[3].partition(":")
    _tie_to_parent()
    with contextlib.suppress(OSError):  # where it is forbidden
        os.nice(_NICE)
    try:
        load: Loader = getattr(importlib.import_module(module), function)
        _restrict(memory_mb)
    except Exception as error:
        wire.send(connection, {"failed": f"{type(error).__name__}: {error}"})
        return
    wire.send(connection, {"ready": True})
    try:
        while True:
            _answer(connection, load)
    except wire.PeerGoneError:
        return


def _tie_to_parent() -> None:
    """Die with the service; leave Ctrl-C and SIGTERM to it, so that it can finish what it accepted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _restrict(memory_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        now_bytes = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit_bytes = now_bytes + memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def _answer(connection: socket.socket, load: Loader) -> None:
    """Read one request, decode, answer. A failure of the loader is an answer too."""
    header = wire.receive_header(connection)
    wire.send(connection, {"taken": True})
    reply: wire.Header
    bodies: list[memoryview] = []
    try:
        data = wire.receive_bytes(connection, header["bytes"])
        asked = header["request"]
        request = WindowRequest(**asked | {"spec": WindowSpec(**asked["spec"])})
        recording = load(data, request, DecodeLimits(**header["limits"]))
        reply = described(recording)
        bodies = [np.ascontiguousarray(window.samples, np.float32).data for window in recording.windows]
    except AudioError as error:
        reply = {"error": error.code, "detail": error.detail}
    except MemoryError:
        reply = {"error": "decoder_memory", "detail": ""}
    except wire.PeerGoneError:
        raise
    except Exception as error:
        reply = {"error": "decoder_crashed", "detail": "", "cause": _where(error)}
    wire.send(connection, reply)
    for body in bodies:
        wire.send_body(connection, body)


def described(recording: Recording) -> wire.Header:
    """Everything but the samples, which follow."""
    windows = [(window.start_seconds, window.seconds) for window in recording.windows]
    return asdict(replace(recording, windows=())) | {"windows": windows}


def _where(error: Exception) -> str:
    """Type and place of a defect, for the service's log; never its message, which may quote the file."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"


if __name__ == "__main__":
    main()
