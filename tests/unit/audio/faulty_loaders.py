"""What a decoder may do on a bad day; run inside the decoding processes by the tests of the pool."""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import Recording, Window
from app.errors import AudioCorrupt


def load(data: bytes, request: WindowRequest, limits: DecodeLimits) -> Recording:
    """The first word says what happens; anything else is decoded."""
    word, _, argument = data[:200].partition(b" ")
    assert sys.argv[0].endswith("worker.py"), "run this in a decoding process only: it would end pytest"
    match word:
        case b"segfault":
            ctypes.string_at(0)
        case b"exit":
            os._exit(0)
        case b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"hang":
            time.sleep(600)
        case b"spin":
            while True:
                pass
        case b"sleep":
            time.sleep(float(argument))
            return _said(str(os.getpid()), request)
        case b"memory":
            bytearray(4_000_000_000)
        case b"bug":
            raise KeyError("secret words of the file")
        case b"corrupt":
            raise AudioCorrupt("Expected this; that came.")
        case b"modules":
            return _said(" ".join(sorted({name.partition(".")[0] for name in sys.modules})), request)
        case b"environment":
            return _said(" ".join(sorted(os.environ)), request)
        case b"pid":
            return _said(str(os.getpid()), request)
        case b"write":
            with open(argument.decode(), "wb") as file:
                file.write(b"x")
        case b"many":
            window = Window(0.0, 1.0, np.zeros(request.spec.window_samples, np.float32))
            return Recording(1.0, (window,) * (request.max_windows + 1), "many")
        case b"nan":
            return Recording(float("nan"), (), "nan")
        case b"flood":
            return Recording(1.0, (), "x" * 10_000_000)  # an oversized header
    return load_recording(data, request, limits)


def _said(text: str, request: WindowRequest) -> Recording:
    return Recording(1.0, (Window(0.0, 1.0, np.arange(request.spec.window_samples, dtype=np.float32)),), text)
