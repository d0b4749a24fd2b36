"""One decoding process, seen from the service: started, asked, killed. Used by one thread at a time."""

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
from app.errors import AudioError, DecoderCrashed, DecoderTimeout

_START_SECONDS = 30.0
_TAKE_SECONDS = 5.0  # for an idle process to take a file: it does so at once, unless it hangs or is stopped
_POLL_SECONDS = 0.25  # how often a waiting thread looks whether its caller is gone; only while a file is decoded
_GRACE_SECONDS = 0.2  # after the client has left: most files are done by then, and starting a new process takes as long
_SOCKET_BUFFER_BYTES = 1 << 20
# All that a decoder gets to see of the environment: no keys, no settings.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")


class WorkerGoneError(Exception):
    """The process is dead or does not start; the message says why."""


class StuckError(Exception):
    """The process did not take the file, which therefore is not to blame."""


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One file to decode."""

    data: bytes
    request: WindowRequest
    limits: DecodeLimits
    future: Future[Recording]
    abandoned: threading.Event


class DecoderProcess:
    """A running `app.audio.worker`. `cause`: the last defect inside it, for the log."""

    def __init__(self, loader: str, memory_mb: int, give_up: threading.Event) -> None:
        """Start it and wait until it is ready. Raises WorkerGoneError, OSError."""
        self.jobs = 0
        self.cause = ""
        self._connection, theirs = socket.socketpair()
        with theirs:
            for end in (self._connection, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
            self._connection.settimeout(_POLL_SECONDS)
            command = [sys.executable, "-P", "-m", "app.audio.worker", str(theirs.fileno()), str(memory_mb), loader]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # codecs talk
                )
            except OSError:
                self._connection.close()
                raise
        try:
            self._wait_until_ready(give_up)
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self, give_up: threading.Event) -> None:
        deadline = time.monotonic() + _START_SECONDS

        def check() -> None:
            if give_up.is_set() or time.monotonic() > deadline:
                raise WorkerGoneError("not ready in time")

        try:
            header = wire.receive_header(self._connection, check)
        except wire.PeerGoneError:
            raise WorkerGoneError("ended before it was ready") from None
        if "ready" not in header:
            raise WorkerGoneError(str(header.get("failed")))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def decode(self, job: Job, deadline: float) -> Recording:
        """Decode `job`, until `deadline` (monotonic). Any error but the worker's own leaves the process dead.

        Raises AudioError: the worker's own, DecoderTimeout, DecoderCrashed; StuckError; and AbandonedError.
        """
        self.jobs += 1
        nobody_waits_since = math.inf

        def check() -> None:
            nonlocal nobody_waits_since
            now = time.monotonic()
            if job.abandoned.is_set():
                nobody_waits_since = min(nobody_waits_since, now)
            if now > nobody_waits_since + _GRACE_SECONDS:
                raise AbandonedError
            if now > deadline:
                raise DecoderTimeout

        try:
            return self._exchange(job, check)
        except wire.PeerGoneError:
            self.kill()
            raise DecoderCrashed from None
        except (AbandonedError, DecoderTimeout, StuckError):
            self.kill()
            raise

    def _exchange(self, job: Job, check: Callable[[], None]) -> Recording:
        question = {"bytes": len(job.data), "request": asdict(job.request), "limits": asdict(job.limits)}
        wire.send(self._connection, question, check=check)
        self._wait_until_taken(check)
        wire.send_body(self._connection, job.data, check)
        header = wire.receive_header(self._connection, check)
        if "error" in header:
            self.cause = str(header.get("cause", ""))
            raise _audio_error(header)
        answer = read_answer(header, job.request.max_windows)
        samples = np.empty((len(answer.windows), job.request.spec.window_samples), np.float32)
        wire.receive_into(self._connection, samples.data.cast("B") if answer.windows else memoryview(b""), check)
        return answer.recording(samples)

    def _wait_until_taken(self, check: Callable[[], None]) -> None:
        gives_up_at = time.monotonic() + _TAKE_SECONDS

        def check_taking() -> None:
            check()
            if time.monotonic() > gives_up_at:
                raise StuckError

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
