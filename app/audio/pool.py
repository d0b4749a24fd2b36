"""Decoding in processes of its own, so that a crash, a hang or a memory bomb costs one request and never the service.

Files come in the order of their arrival, but further windows of a file that was decoded before come first: its track is
answered before others begin.

One thread looks after one process: it starts it, feeds it one file at a time, kills it when its time is up or its
caller is gone, and replaces it when it dies. Threads and processes share nothing but a queue of jobs.

Why not `pebble` or `concurrent.futures`: their workers share one pipe and one lock, so that a worker killed in the
middle of an answer can block or break the whole pool (pebble breaks when an idle worker is killed from outside), they
add polling (5.5 ms a task there, 0.15 ms here), and they unpickle what a worker says.
"""

import asyncio
import itertools
import logging
import queue
import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

from app.audio.process import AbandonedError, DecoderProcess, Job, StuckError, WorkerGoneError
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import Recording
from app.errors import AudioError, DecoderCrashed, InternalError, LridError, NotReady

_IDLE_CHECK_SECONDS = 0.5  # how soon the death of an idle process is noticed
_MAX_JOBS_PER_PROCESS = 2000  # then it is replaced: what codecs leak stays bounded
_MAX_RESTART_DELAY_SECONDS = 5.0
_TRIES = 2  # of a file whose process ended or did not take it: the file need not be the cause

log = logging.getLogger(__name__)


class _Place(NamedTuple):
    """In the line before the processes: compared in this order, and never beyond the number."""

    turn: int  # 0: further windows, 1: a new file
    number: int
    job: Job | None  # None ends a thread


class DecodePool:
    """`workers` processes, each with `timeout_seconds` a file and `memory_mb` (10^6 bytes) beyond its size at start."""

    def __init__(
        self,
        *,
        workers: int,
        timeout_seconds: float,
        memory_mb: int,
        loader: str = "app.audio.decode:load_recording",
    ) -> None:
        """`loader`: `module:function`, called in the processes with (bytes, WindowRequest, DecodeLimits)."""
        self._workers = workers
        self._timeout_seconds = timeout_seconds
        self._memory_mb = memory_mb
        self._loader = loader
        self._jobs: queue.PriorityQueue[_Place] = queue.PriorityQueue()
        self._numbers = itertools.count()  # of places
        self._lock = threading.Lock()  # guards the next three
        self._threads: list[threading.Thread] = []
        self._serving: set[int] = set()  # slots whose last start of a process succeeded
        self._running: set[Job] = set()
        self._closed = threading.Event()

    def start(self) -> None:
        """Start the processes; returns at once. They are ready about 0.2 s later. Called by `load` if need be."""
        with self._lock:
            if self._closed.is_set():
                raise NotReady("The audio decoders have been stopped.")
            for slot in range(len(self._threads), self._workers):
                thread = threading.Thread(target=self._look_after, args=(slot,), name=f"decode-{slot}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        """Kill the processes; jobs not finished fail with NotReady. Let them finish first if they matter."""
        with self._lock:
            self._closed.set()
            for job in self._running:
                job.abandoned.set()
        for _ in self._threads:
            self._jobs.put(_Place(0, next(self._numbers), None))
        for thread in self._threads:
            thread.join()
        self._fail_waiting(NotReady("The audio decoders have been stopped."))

    @property
    def healthy(self) -> bool:
        """Whether files can be decoded: started, and not every attempt to start a process fails."""
        return bool(self._serving) and not self._closed.is_set() and any(thread.is_alive() for thread in self._threads)

    @property
    def waiting(self) -> int:
        """Jobs that no process has taken yet."""
        return self._jobs.qsize()

    async def load(self, data: bytes, request: WindowRequest, limits: DecodeLimits) -> Recording:
        """`load_recording` in a process. Raises AudioError; NotReady after `close`.

        Cancelling the caller drops a waiting job, and within 0.75 s kills the process of a running one.
        The queue is not bounded here: the caller bounds what it accepts.
        """
        self.start()
        job = Job(data, request, limits, Future(), threading.Event())
        with self._lock:
            if self._closed.is_set():
                raise NotReady("The audio decoders have been stopped.")
            self._jobs.put(_Place(0 if request.skip else 1, next(self._numbers), job))
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            job.abandoned.set()
            raise

    def _look_after(self, slot: int) -> None:
        """The loop of one thread. No defect may end it: the pool would have one decoder less, unnoticed."""
        while not self._closed.is_set():
            try:
                self._serve(slot)
            except Exception:
                log.exception("a thread that looks after a decoder failed; it goes on")
                self._closed.wait(_MAX_RESTART_DELAY_SECONDS)

    def _serve(self, slot: int) -> None:
        """Keep a process alive, hand it jobs."""
        process: DecoderProcess | None = None
        failures = 0
        while not self._closed.is_set():
            process = self._living(process, slot)
            if process is None:
                failures += 1
                self._closed.wait(min(0.1 * 2**failures, _MAX_RESTART_DELAY_SECONDS))
                continue
            failures = 0
            try:
                job = self._jobs.get(timeout=_IDLE_CHECK_SECONDS).job
            except queue.Empty:
                continue
            if job is not None and job.future.set_running_or_notify_cancel():
                process = self._run(job, process, slot)
            del job  # it holds the upload
        if process is not None:
            process.kill()

    def _living(self, process: DecoderProcess | None, slot: int) -> DecoderProcess | None:
        """`process` if it lives and is not worn out, else a new one; None when none can be started."""
        if process is not None and process.alive and process.jobs < _MAX_JOBS_PER_PROCESS:
            return process
        if process is not None:
            process.kill()
        try:
            new = DecoderProcess(self._loader, self._memory_mb, self._closed)
        except (WorkerGoneError, OSError) as error:
            with self._lock:
                self._serving.discard(slot)
                nobody = not self._serving
            if not self._closed.is_set():
                log.error("an audio decoder cannot be started", extra={"fields": {"cause": str(error)}})
                if nobody:
                    self._fail_waiting(InternalError())
            return None
        with self._lock:
            self._serving.add(slot)
        return new

    def _run(self, job: Job, process: DecoderProcess | None, slot: int) -> DecoderProcess | None:
        """Decode one file; returns the process that did. Whatever happens, the job's caller gets an answer."""
        with self._lock:
            self._running.add(job)
            if self._closed.is_set():
                job.abandoned.set()
        outcome: Recording | LridError = InternalError()
        try:
            for _ in range(_TRIES):
                process = self._living(process, slot)  # it may have died while idle
                outcome = self._outcome(job, process)
                if not isinstance(outcome, (DecoderCrashed, InternalError)) or process is None or process.alive:
                    break
        except Exception as error:
            log.error("decoding failed in the service itself", exc_info=error)
            if process is not None:
                process.kill()
        with self._lock:
            self._running.discard(job)
        if isinstance(outcome, LridError):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
        return process

    def _outcome(self, job: Job, process: DecoderProcess | None) -> Recording | LridError:
        if process is None:
            return InternalError()
        try:
            return process.decode(job, time.monotonic() + self._timeout_seconds)
        except AudioError as error:
            if process.cause:
                log.error("a decoder met a defect", extra={"fields": {"cause": process.cause}})
                process.cause = ""
            return error
        except StuckError:
            log.error("a decoder hung while it had nothing to do, and was replaced")
            return InternalError()
        except AbandonedError:
            return NotReady("The audio decoders have been stopped.")  # after `close` only: otherwise no caller is left

    def _fail_waiting(self, error: LridError) -> None:
        while True:
            try:
                job = self._jobs.get_nowait().job
            except queue.Empty:
                return
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
