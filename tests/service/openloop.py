"""Open-loop load: requests leave at their times whatever becomes of the others, as from a world of strangers.

A closed loop slows down when the server does, and so hides what overload feels like. Here the delay of an answer counts
from the moment at which its request was due. Any status is an answer; a connection that breaks is one too, with status 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """Whole HTTP/1.1 requests, as bytes, under a name."""

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    status: int  # 0: the connection broke before an answer came
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def retry_after_seconds(self) -> float:
        return float(self.headers["retry-after"])


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and what became of it."""

    kind: str
    due_seconds: float  # since the load began
    seconds: float  # from due to the last byte of the answer
    reply: Reply

    @property
    def status(self) -> int:
        return self.reply.status


NO_REPLY = Reply(0, {}, b"")


class Connections:
    """Keep-alive connections to 127.0.0.1; as many as are needed at once.

    Those that were idle for 2 s are not used again: the server closes them after 5 s, perhaps just when we write.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def exchange(self, data: bytes) -> Reply:
        """Send one request and read its answer. An idle connection that the server closed meanwhile is not used."""
        reader, writer = await self._take()
        try:
            writer.write(data)  # not drained: a refusal may come before the body has left
            reply = await read_reply(reader)
        except (OSError, EOFError, ValueError):
            writer.close()
            return NO_REPLY
        except BaseException:
            writer.close()
            raise
        if reply.headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer, time.monotonic()))
        return reply

    async def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer, since = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing() and time.monotonic() - since < 2.0:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)

    async def close(self) -> None:
        for _, writer, _ in self._idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Raises EOFError or OSError when the connection ends, ValueError when it does not speak HTTP."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ", 2)[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        body = b"".join([chunk async for chunk in _chunks(reader)])
    else:
        body = b""
    return Reply(status, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> Any:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")


async def open_loop(
    port: int, make: Callable[[int], Request], *, per_second: float, seconds: float, patience_seconds: float = 90.0
) -> list[Sent]:
    """Send `make(0)`, `make(1)`, ... at a fixed rate for `seconds`; wait for every answer, in the order they were due."""
    connections = Connections(port)
    began = time.perf_counter()

    async def one(number: int) -> Sent:
        due = number / per_second
        request = make(number)
        reply = NO_REPLY
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(patience_seconds):
                reply = await connections.exchange(request.data)
        return Sent(request.kind, due, time.perf_counter() - began - due, reply)

    tasks = []
    for number in range(round(per_second * seconds)):
        wait_seconds = began + number / per_second - time.perf_counter()
        if wait_seconds > 0 or number % 16 == 0:
            await asyncio.sleep(max(wait_seconds, 0))
        tasks.append(asyncio.create_task(one(number)))
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await connections.close()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; nan of nothing."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def get_request(path: str, *headers: str) -> bytes:
    """A whole GET request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: loadtest", *headers, "", ""]).encode()


def post_request(path: str, content_type: str, body: bytes, *headers: str) -> bytes:
    """A whole POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: loadtest", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def json_post(fields: dict[str, Any], *headers: str) -> bytes:
    """POST /identify with metadata."""
    return post_request("/identify", "application/json", json.dumps(fields).encode(), *headers)


def audio_post(audio: bytes, fields: dict[str, str] | None = None, *headers: str) -> bytes:
    """POST /identify with audio and form fields, the fields first."""
    return post_request("/identify", f"multipart/form-data; boundary={BOUNDARY}", b"".join(_form(audio, fields)), *headers)


BOUNDARY = "lrid-loadtest-boundary"


def _form(audio: bytes, fields: dict[str, str] | None) -> Iterator[bytes]:
    for name, value in (fields or {}).items():
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'.encode()
    yield audio
    yield f"\r\n--{BOUNDARY}--\r\n".encode()
