"""One decoding process after the other, seen from the service: started, asked, killed. Used by one thread at a time."""

import contextlib
import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import pydantic

from app import errors
from app.audio import wire
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import AudioWarning, FloatArray, Metadata, Recording, Window
from app.errors import AudioError, DecoderCrashed, DecoderTimeout, InternalError, NotReady

STOPPED = "The audio decoders have been stopped."
_MAX_FILES = 2000  # then a process is replaced: what codecs leak stays bounded
_START_SECONDS = 30.0
_TAKE_SECONDS = 5.0  # for an idle process to take a file: it does so at once, unless it hangs or is stopped
_POLL_SECONDS = 0.25  # how often a waiting thread looks whether its caller is gone; only while a file is decoded
_GRACE_SECONDS = 0.2  # after the client has left: most files are done by then, and starting a new process takes as long
_SOCKET_BUFFER_BYTES = 1 << 20
# All that a decoder gets to see of the environment: no keys, no settings.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One file to decode."""

    data: bytes
    request: WindowRequest
    limits: DecodeLimits
    future: Future[Recording]
    abandoned: threading.Event


class Decoder:
    """A process of `app.audio.worker`, and those that replace it. `serving`: whether the last start succeeded."""

    def __init__(self, loader: str, memory_mb: int, closed: threading.Event) -> None:
        """Starts nothing yet; with `closed` set, a process that is not ready is given up."""
        self.serving = False
        self._arguments = (str(memory_mb), loader)
        self._closed = closed
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket
        self._end = contextlib.ExitStack()
        self._files = 0  # that this process was given

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        self._end.close()

    def ready(self) -> bool:
        """Whether a process can take a file; one that has ended or is worn out is replaced first."""
        if self.alive and self._files < _MAX_FILES:
            return True
        self.kill()
        try:
            self._start()
            self.serving = True
        except (wire.PeerGoneError, OSError) as error:
            self.kill()
            self.serving = False
            if not self._closed.is_set():
                log.error("an audio decoder cannot be started", extra={"fields": {"cause": str(error)}})
        return self.serving

    def _start(self) -> None:
        """Start a process that is ready. Raises PeerGoneError, OSError."""
        self._files = 0
        self._connection, theirs = socket.socketpair()
        self._end.callback(self._connection.close)
        with theirs:
            for end in (self._connection, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.audio.worker", str(theirs.fileno()), *self._arguments],
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # codecs talk
            )
        self._end.callback(self._process.wait)
        self._end.callback(self._process.kill)
        self._connection.settimeout(_POLL_SECONDS)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS

        def check() -> None:
            if self._closed.is_set() or time.monotonic() > deadline:
                raise wire.PeerGoneError("it was not ready in time")

        header = wire.receive_header(self._connection, check)
        if "ready" not in header:
            raise wire.PeerGoneError(str(header.get("failed")))

    def decode(self, job: Job, timeout_seconds: float) -> Recording:
        """Decode `job`. Any error but the worker's own leaves the process dead.

        Raises AudioError: the worker's own, DecoderTimeout, DecoderCrashed; InternalError if no process took the file;
        NotReady if no caller is left.
        """
        if not self.ready():
            raise NotReady(STOPPED) if self._closed.is_set() else InternalError
        self._files += 1
        deadline, leaves_at = time.monotonic() + timeout_seconds, math.inf

        def check() -> None:
            nonlocal leaves_at
            now = time.monotonic()
            if job.abandoned.is_set():
                leaves_at = min(leaves_at, now + _GRACE_SECONDS)
            if now > leaves_at:
                raise NotReady(STOPPED)
            if now > deadline:
                raise DecoderTimeout

        try:
            answer = self._exchange(job, check)
        except wire.PeerGoneError:
            self.kill()
            raise DecoderCrashed from None
        except BaseException:
            self.kill()
            raise
        if isinstance(answer, AudioError):
            raise answer
        return answer

    def _exchange(self, job: Job, check: Callable[[], None]) -> Recording | AudioError:
        question = {"bytes": len(job.data), "request": asdict(job.request), "limits": asdict(job.limits)}
        wire.send(self._connection, question, check)
        self._wait_until_taken(check)
        wire.send_body(self._connection, job.data, check)
        header = wire.receive_header(self._connection, check)
        if "cause" in header:
            log.error("a decoder met a defect", extra={"fields": {"cause": str(header["cause"])}})
        if "error" in header:
            return _audio_error(header)
        answer = read_answer(header, job.request.max_windows)
        samples = np.empty((len(answer.windows), job.request.spec.window_samples), np.float32)
        wire.receive_into(self._connection, samples.data.cast("B") if answer.windows else memoryview(b""), check)
        return answer.recording(samples)

    def _wait_until_taken(self, check: Callable[[], None]) -> None:
        """Raises InternalError for a process that hung before it had the file, which is not to blame."""
        gives_up_at = time.monotonic() + _TAKE_SECONDS

        def check_taking() -> None:
            check()
            if time.monotonic() > gives_up_at:
                log.error("a decoder hung while it had nothing to do, and was replaced")
                raise InternalError

        if "taken" not in wire.receive_header(self._connection, check_taking):
            raise wire.PeerGoneError


class Answer(pydantic.BaseModel):
    """What a process answers before the samples. It is checked: a hostile file may have taken the decoder over."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    seconds: float
    windows: list[tuple[float, float]]  # seconds at which they start, seconds that they cover
    format: str
    warnings: Annotated[tuple[AudioWarning, ...], pydantic.Field(max_length=8)]
    tags: Metadata | None
    lyrics: str | None
    next_index: int
    planned: int

    def recording(self, samples: FloatArray) -> Recording:
        """`samples`: (n_windows, window_samples)."""
        rows = zip(self.windows, samples, strict=True)
        windows = tuple(Window(start, seconds, row) for (start, seconds), row in rows)
        return Recording(**dict(self) | {"windows": windows})


def read_answer(header: wire.Header, max_windows: int) -> Answer:
    """Raises PeerGoneError for anything but a true answer, such as one of more windows than were requested."""
    try:
        answer = Answer.model_validate(header)
    except pydantic.ValidationError as error:
        raise wire.PeerGoneError from error
    if len(answer.windows) > max_windows:
        raise wire.PeerGoneError
    return answer


def _audio_error(header: wire.Header) -> AudioError:
    found = errors.public_errors().get(str(header["error"]), DecoderCrashed)
    if not issubclass(found, AudioError):
        found = DecoderCrashed
    return found(str(header.get("detail", "")))


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # The same modules as here; one thread each, as many processes as cores are started.
    return kept | {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
