"""One of several server processes: `python -m app.worker SOCKET_FD BEAT_FD BOARD SEAT SEATS when-ready|at-once`.

See app.workers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from types import FrameType

from app.main import create_app
from app.server.run import Server, configure, finish
from app.serving.board import ReleaseBoard, Seat
from app.settings import Settings
from app.workers import BEAT_SECONDS

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_TICK_SECONDS = 0.1  # uvicorn's


class WorkerServer(Server):
    """Tells the supervisor that its event loop turns."""

    beat_fd: int

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            os._exit(0)  # nothing was accepted yet, and loading is not waited for
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if counter % round(BEAT_SECONDS / _TICK_SECONDS) == 0:
            with contextlib.suppress(OSError):  # the pipe is full or closed: the supervisor has other worries
                os.write(self.beat_fd, b".")
        return await super().on_tick(counter)


def main() -> None:
    socket_fd, beat_fd, board_path, seat, seats, when = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    settings = Settings()
    tell = partial(os.kill, os.getppid(), signal.SIGHUP)
    board = ReleaseBoard(Path(board_path), tell, Seat(int(seat), int(seats)))
    app = partial(create_app, settings, board=board, opens_when_ready=when == "when-ready")
    server = WorkerServer(configure(settings, app), settings.drain_delay_seconds)
    server.beat_fd = int(beat_fd)
    os.set_blocking(server.beat_fd, False)
    server.run(sockets=[socket.socket(fileno=int(socket_fd))])
    finish(server)


if __name__ == "__main__":
    main()
