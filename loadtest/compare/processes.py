"""A contender's processes: started in a group of their own, waited for, and ended to the last one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from loadtest.compare.contenders import Contender
from loadtest.compare.environments import Environment
from loadtest.openloop import Connections, Reply

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_SECONDS = 150.0
_MAX_FAILURES = 5


Running = tuple[int, psutil.Process]  # a server's port and process


class CannotStartError(Exception):
    """The server ended, or never answered; the message is what it said last."""


@contextmanager
def started(contender: Contender, environment: Environment, store: Path, clip: bytes) -> Iterator[Running]:
    """Start the server, yield port and process once it identifies a clip, end it. Raises CannotStartError."""
    port = _free_port()
    command = [str(environment.python), *(part.format(port=port) for part in contender.rival.command)]
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY), "LRID_MODEL_STORE": str(store)}
    environ |= {"COMPARE_ENGINE": contender.engine}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environ | dict(contender.rival.settings),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            if failure := _failure(process, port, contender.request(clip)):
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines()
                raise CannotStartError("; ".join([failure, *said[-2:]])[:300])
            yield port, psutil.Process(process.pid)
        finally:
            _end(process)


def ask(port: int, request: bytes, timeout_seconds: float) -> Reply | None:
    """One request, or None when no answer came."""

    async def exchange() -> Reply:
        connections = Connections(port)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await connections.exchange(request)
        finally:
            await connections.close()

    with contextlib.suppress(OSError, TimeoutError):
        return asyncio.run(exchange())
    return None


def _failure(process: subprocess.Popen[bytes], port: int, request: bytes) -> str:
    """Ask until the answer is 200; or why it never will be."""
    gives_up_at, failed = time.monotonic() + START_TIMEOUT_SECONDS, 0
    while time.monotonic() < gives_up_at:
        if process.poll() is not None:
            return f"ended with {process.returncode}"
        reply = ask(port, request, 30)
        if reply is not None and reply.status == 200:
            return ""
        failed += reply is not None and reply.status == 500
        if failed == _MAX_FAILURES:
            return "answers 500"
        time.sleep(0.5)
    return f"did not answer within {START_TIMEOUT_SECONDS:g} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, patience, and SIGKILL for whatever of its tree is left."""
    tree = []
    if process.poll() is None:
        first = psutil.Process(process.pid)
        tree = [first, *first.children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    for member in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(tree, timeout=10)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
