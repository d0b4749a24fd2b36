"""Several server processes on one port: started, watched, replaced.

uvicorn's own supervisor lets a new process accept requests before its release is loaded, knows no second SIGTERM, and
reloads by restarting. Here the first processes open the port at once and say that they are not ready until all of them
have loaded, so that no traffic meets one that has not; a replacement opens the port when it is ready; SIGHUP and a release
chosen through one process reach them all; a process whose event loop has stopped is killed; and the first SIGTERM drains,
the second ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from app.serving.board import ReleaseBoard
from app.serving.metrics import MULTIPROCESS_FOLDER

log = logging.getLogger("lrid.workers")

TICK_SECONDS = 0.2
BEAT_SECONDS = 1.0  # how often a process says that its event loop turns
LIFELESS_SECONDS = 30.0  # without a beat: killed and replaced
START_SECONDS = 300.0  # until the first beat
MAX_RESTART_DELAY_SECONDS = 30.0
LONG_LIVED_SECONDS = 60.0  # who lived longer is replaced at once


@dataclass(slots=True)
class _Worker:
    """One process, as seen by the supervisor."""

    process: subprocess.Popen[bytes]
    beats: int  # the end of a pipe that is read
    started_at: float  # time.monotonic()
    last_beat_at: float | None = None
    crashes: int = 0  # of this seat, in a row and soon after the start
    restarts_at: float | None = None  # set when it has ended

    def lifeless(self, now: float) -> bool:
        if self.last_beat_at is None:
            return now - self.started_at > START_SECONDS
        return now - self.last_beat_at > LIFELESS_SECONDS


class Supervisor:
    """`run` returns when all processes have ended after a signal."""

    def __init__(self, listening: socket.socket, workers: int, folder: Path, patience_seconds: float) -> None:
        """`folder`: a temporary one, for what they share. `patience_seconds`: for draining; after that they are killed."""
        self._listening = listening
        self._n_workers = workers
        self._folder = folder
        self._patience_seconds = patience_seconds
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._workers: list[_Worker] = []

    def run(self) -> None:
        os.environ[MULTIPROCESS_FOLDER] = str(self._folder)  # the processes add up their metrics in files there
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, lambda number, _: self._signals.put(number))
        self._workers = [self._start(seat, when_ready=False) for seat in range(self._n_workers)]
        while (number := self._next_signal()) in (None, signal.SIGHUP):
            if number == signal.SIGHUP:
                self._tell_all(signal.SIGHUP)
            self._look_after()
        self._end()

    def _next_signal(self) -> int | None:
        try:
            return self._signals.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return None

    def _start(self, seat: int, *, when_ready: bool) -> _Worker:
        """`when_ready`: it shall not open the port before it can serve, for others serve already."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        board = self._folder / ReleaseBoard.NAME
        if not when_ready:
            ReleaseBoard(board).leave_seat(seat)
        fds = (self._listening.fileno(), writing)
        arguments = (*fds, board, seat, self._n_workers, "when-ready" if when_ready else "at-once")
        command = [sys.executable, "-m", "app.worker", *map(str, arguments)]
        try:
            process = subprocess.Popen(command, pass_fds=fds, process_group=0)  # Ctrl-C is for the supervisor alone
        finally:
            os.close(writing)
        log.info("server process started", extra={"fields": {"process": process.pid}})
        return _Worker(process, reading, time.monotonic())

    def _look_after(self) -> None:
        now = time.monotonic()
        for seat, worker in enumerate(self._workers):
            _read_beats(worker, now)
            if worker.process.poll() is None:
                if worker.lifeless(now):
                    log.error("server process does not react, killed", extra={"fields": {"process": worker.process.pid}})
                    worker.process.kill()
            elif worker.restarts_at is None:
                self._bury(worker, now)
            elif now >= worker.restarts_at:
                others_serve = any(other.process.poll() is None for other in self._workers)
                self._workers[seat] = self._start(seat, when_ready=others_serve)
                self._workers[seat].crashes = worker.crashes

    def _bury(self, worker: _Worker, now: float) -> None:
        """Decide when it is replaced: at once, but ever later if that does not help."""
        os.close(worker.beats)
        worker.crashes = 0 if now - worker.started_at > LONG_LIVED_SECONDS else worker.crashes + 1
        delay = min(0.5 * 2 ** (worker.crashes - 1), MAX_RESTART_DELAY_SECONDS) if worker.crashes > 1 else 0.0
        worker.restarts_at = now + delay
        fields = {"process": worker.process.pid, "exit_code": worker.process.returncode, "restarts_in_seconds": delay}
        log.error("server process ended, will be replaced", extra={"fields": fields})

    def _tell_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(number)

    def _end(self) -> None:
        """Drain; a second signal or the end of patience ends them at once."""
        self._listening.close()
        self._tell_all(signal.SIGTERM)
        gives_up_at = time.monotonic() + self._patience_seconds
        while any(worker.process.poll() is None for worker in self._workers):
            if self._next_signal() in (signal.SIGTERM, signal.SIGINT):
                self._tell_all(signal.SIGTERM)
            if time.monotonic() > gives_up_at:
                self._tell_all(signal.SIGKILL)


def _read_beats(worker: _Worker, now: float) -> None:
    if worker.restarts_at is None:
        with contextlib.suppress(BlockingIOError):
            if os.read(worker.beats, 4096):
                worker.last_beat_at = now
