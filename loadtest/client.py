"""A closed loop of keep-alive connections that costs the machine next to nothing: prepared bytes, asyncio streams."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BOUNDARY = "lrid-loadtest-boundary"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one closed loop."""

    answers: list[Answer]  # in the order of the requests
    seconds: float  # from the first request to the last answer

    @property
    def per_second(self) -> float:
        return len(self.answers) / self.seconds


def json_request(path: str, fields: dict[str, str]) -> bytes:
    """A whole HTTP/1.1 request."""
    return _request(path, "application/json", json.dumps(fields).encode())


def audio_request(path: str, audio: bytes) -> bytes:
    """A whole HTTP/1.1 request: one multipart part named audio."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="audio"; filename="clip"\r\n\r\n'
    body = head.encode() + audio + f"\r\n--{BOUNDARY}--\r\n".encode()
    return _request(path, f"multipart/form-data; boundary={BOUNDARY}", body)


def _request(path: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: loadtest\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def run_round(port: int, requests: Sequence[bytes], connections: int, timeout_seconds: float) -> Round:
    """Send all requests over so many connections of 127.0.0.1.

    Raises TimeoutError, and a group of RuntimeError when any status is not 200.
    """

    async def bounded() -> Round:
        async with asyncio.timeout(timeout_seconds):
            return await _run(port, requests, connections)

    return asyncio.run(bounded())


async def _run(port: int, requests: Sequence[bytes], connections: int) -> Round:
    todo = iter(enumerate(requests))
    answers: dict[int, Answer] = {}

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, request in todo:
            answers[number] = await _exchange(reader, writer, request)
        writer.close()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(connections, len(requests))):
            group.create_task(connection())
    return Round([answers[i] for i in range(len(requests))], time.perf_counter() - started)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    started = time.perf_counter()
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    body = await reader.readexactly(length)
    if status != 200:
        raise RuntimeError(f"expected 200, got {status}: {body[:300]!r}")
    return Answer(status, body, time.perf_counter() - started)
