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
from concurrent.futures import Future
from typing import NamedTuple

from app.audio.process import STOPPED, Decoder, Job
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import Recording
from app.errors import DecoderCrashed, InternalError, LridError, NotReady

_IDLE_CHECK_SECONDS = 0.5  # how soon the death of an idle process is noticed
_MAX_RESTART_DELAY_SECONDS = 5.0

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
        self._timeout_seconds = timeout_seconds
        self._closed = threading.Event()
        self._decoders = [Decoder(loader, memory_mb, self._closed) for _ in range(workers)]
        self._jobs: queue.PriorityQueue[_Place] = queue.PriorityQueue()
        self._numbers = itertools.count()  # of places
        self._lock = threading.Lock()  # guards the next two
        self._threads: list[threading.Thread] = []
        self._running: set[Job] = set()

    def start(self) -> None:
        """Start the processes; returns at once. They are ready about 0.2 s later. Called by `load` if need be."""
        with self._lock:
            if self._closed.is_set():
                raise NotReady(STOPPED)
            for decoder in self._decoders[len(self._threads) :]:
                thread = threading.Thread(target=self._look_after, args=(decoder,), name="decode", daemon=True)
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
        self._fail_waiting(NotReady(STOPPED))

    @property
    def healthy(self) -> bool:
        """Whether files can be decoded: started, and not every attempt to start a process fails."""
        alive = not self._closed.is_set() and any(thread.is_alive() for thread in self._threads)
        return alive and any(decoder.serving for decoder in self._decoders)

    @property
    def waiting(self) -> int:
        """Jobs that no process has taken yet."""
        return self._jobs.qsize()

    async def load(self, data: bytes, request: WindowRequest, limits: DecodeLimits) -> Recording:
        """Run `load_recording` in a process. Raises AudioError; NotReady after `close`.

        Cancelling the caller drops a waiting job, and within 0.75 s kills the process of a running one.
        The queue is not bounded here: the caller bounds what it accepts.
        """
        self.start()
        job = Job(data, request, limits, Future(), threading.Event())
        with self._lock:
            if self._closed.is_set():
                raise NotReady(STOPPED)
            self._jobs.put(_Place(0 if request.skip else 1, next(self._numbers), job))
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            job.abandoned.set()
            raise

    def _look_after(self, decoder: Decoder) -> None:
        """The loop of one thread. No defect may end it: the pool would have one decoder less, unnoticed."""
        while not self._closed.is_set():
            try:
                self._serve(decoder)
            except Exception:
                log.exception("a thread that looks after a decoder failed; it goes on")
                self._closed.wait(_MAX_RESTART_DELAY_SECONDS)
        decoder.kill()

    def _serve(self, decoder: Decoder) -> None:
        """Keep a process alive, hand it jobs."""
        failures = 0
        while not self._closed.is_set():
            if not decoder.ready():
                if not self._closed.is_set() and not any(one.serving for one in self._decoders):
                    self._fail_waiting(InternalError())
                failures += 1
                self._closed.wait(min(0.1 * 2**failures, _MAX_RESTART_DELAY_SECONDS))
                continue
            failures = 0
            try:
                job = self._jobs.get(timeout=_IDLE_CHECK_SECONDS).job
            except queue.Empty:
                continue
            if job is not None and job.future.set_running_or_notify_cancel():
                self._run(job, decoder)
            del job  # it holds the upload

    def _run(self, job: Job, decoder: Decoder) -> None:
        """Decode one file. Whatever happens, the job's caller gets an answer."""
        with self._lock:
            self._running.add(job)
            if self._closed.is_set():
                job.abandoned.set()
        try:
            job.future.set_result(self._decoded(job, decoder))
        except LridError as error:
            job.future.set_exception(error)
        except Exception as error:
            log.error("decoding failed in the service itself", exc_info=error)
            job.future.set_exception(InternalError())
        with self._lock:
            self._running.discard(job)

    def _decoded(self, job: Job, decoder: Decoder) -> Recording:
        """Try once more if the process ended or did not take the file, which need not be the cause. Raises LridError."""
        try:
            return decoder.decode(job, self._timeout_seconds)
        except (DecoderCrashed, InternalError):
            if decoder.alive or not decoder.serving:  # the process said so itself, or none can be started
                raise
        return decoder.decode(job, self._timeout_seconds)

    def _fail_waiting(self, error: LridError) -> None:
        while True:
            try:
                job = self._jobs.get_nowait().job
            except queue.Empty:
                return
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
