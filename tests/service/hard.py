"""What the tests of `test_hard_*` have in common: a server with a faulty device, and many requests at once."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.service.faulty import Device
from tests.service.live import PATIENCE_SECONDS, LiveServer
from tests.service.openloop import Reply, exchange


def start(store: Path, folder: Path, **settings: object) -> tuple[LiveServer, Device]:
    """A server whose device does as it is told. Use the server with `with`."""
    device = Device(folder / "device")
    live = LiveServer(
        folder / "server", module="tests.service.faulty", extra=device.environment, model_store=store, **settings
    )
    return live, device


def ask_all(port: int, requests: Sequence[bytes]) -> list[Reply]:
    """All at once, each over a connection of its own."""

    async def run() -> list[Reply]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.gather(*(exchange(port, request) for request in requests))

    return asyncio.run(run())


def without_times(reply: Reply) -> dict[str, Any]:
    """An answer that can be compared: two of the same request differ in their times alone."""
    answer = reply.json()
    answer.pop("timing_ms", None)
    answer.pop("request_id", None)
    return answer


def children(live: LiveServer, module: str) -> list[psutil.Process]:
    """The living processes that run `python -m module`."""

    def runs(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            return module in process.cmdline()
        return False

    return [process for process in live.children() if runs(process)]


def connect(live: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", live.port), timeout=PATIENCE_SECONDS)


def receive_all(connection: socket.socket) -> bytes:
    """Until the server closes."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)
