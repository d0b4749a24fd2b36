"""HTTP/1.1 clients that cost the machine little: prepared bytes over asyncio streams, in open and in closed loops.

A closed loop slows down when the server does, and so hides what overload feels like. In an open loop requests leave at fixed
times, and delays count from the moment a request was due. A connection that breaks gives a reply of status 0.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BOUNDARY = "lrid-loadtest-boundary"
PATIENCE_SECONDS = 90.0  # of a client in an open loop
MAX_IDLE_SECONDS = 2.0  # an idle connection is not used after this: the server closes it after 5 s, perhaps as we write


@dataclass(frozen=True, slots=True)
class Reply:
    status: int  # 0: the connection broke before an answer came
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def outcome(self) -> str:
        """`200`, the code of the error, or the bare status of an answer without one."""
        return "200" if self.status == 200 else str(self.json().get("code", self.status) if self.body else self.status)

    @property
    def retry_after_seconds(self) -> float | None:
        value = self.headers.get("retry-after")
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and its reply."""

    due_seconds: float  # since the load began
    seconds: float  # from due to the last byte of the answer
    reply: Reply

    @property
    def status(self) -> int:
        return self.reply.status


NO_REPLY = Reply(0, {}, b"")


class Connections:
    """Keep-alive connections to 127.0.0.1, as many as are needed at once. Use with `async with`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def __aenter__(self) -> "Connections":
        return self

    async def __aexit__(self, *_: object) -> None:
        for idle in self._idle:
            writer = idle[1]
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def exchange(self, data: bytes) -> Reply:
        """Send one request and read its answer."""
        reader, writer = await self._take()
        try:
            writer.write(data)  # not drained: a rejection may come before the body has left
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

    async def timed(self, data: bytes) -> tuple[Reply, float]:
        """Returns the answer, and its seconds."""
        began = time.perf_counter()
        reply = await self.exchange(data)
        return reply, time.perf_counter() - began

    async def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer, since = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing() and time.monotonic() - since < MAX_IDLE_SECONDS:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)


async def ask(port: int, data: bytes) -> Reply:
    """Send one request over a connection of its own."""
    async with Connections(port) as connections:
        return await connections.exchange(data)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Raises EOFError or OSError when the connection ends, ValueError when it does not speak HTTP."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Reply(int(lines[0].split(" ", 2)[1]), headers, body)


async def open_loop(port: int, make: Callable[[int], bytes], *, per_second: float, seconds: float) -> list[Sent]:
    """Send `make(0)`, `make(1)`, ... at a fixed rate; wait for every answer, in the order they were due."""
    began = time.perf_counter()

    async def one(connections: Connections, number: int) -> Sent:
        due, reply = number / per_second, NO_REPLY
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                reply = await connections.exchange(make(number))
        return Sent(due, time.perf_counter() - began - due, reply)

    tasks = []
    async with Connections(port) as connections:
        for number in range(round(per_second * seconds)):
            wait_seconds = began + number / per_second - time.perf_counter()
            if wait_seconds > 0 or number % 16 == 0:
                await asyncio.sleep(max(wait_seconds, 0))
            tasks.append(asyncio.create_task(one(connections, number)))
        return list(await asyncio.gather(*tasks))


async def closed_loop(
    port: int,
    requests: Sequence[bytes],
    *,
    at_once: int,
    seconds: float,
    ends: list[float] | None = None,
    until: Callable[[], bool] = lambda: False,
) -> float:
    """Good answers per second to `at_once` clients that ask again as soon as they are answered.

    `ends` gets the time of each, by time.perf_counter(). Once `until` holds, no more is asked.
    """
    ends = [] if ends is None else ends
    stops_at = time.perf_counter() + seconds

    async def client(connections: Connections, number: int) -> None:
        while time.perf_counter() < stops_at and not until():
            reply = await connections.exchange(requests[number % len(requests)])
            if reply.status == 200:
                ends.append(time.perf_counter())
            else:
                await asyncio.sleep(0.1)
            number += at_once

    async with Connections(port) as connections:
        await asyncio.gather(*(client(connections, number) for number in range(at_once)))
    return (len(ends) - 1) / (max(ends) - min(ends)) if len(ends) > 1 else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that at least `share` of all do not exceed; nan if there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def get_request(path: str, *headers: str) -> bytes:
    """A whole GET request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: loadtest", *headers, "", ""]).encode()


def post_request(path: str, content_type: str, body: bytes, *headers: str) -> bytes:
    """A whole POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: loadtest", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def json_post(fields: dict[str, Any], *headers: str, path: str = "/identify") -> bytes:
    """A POST of metadata."""
    return post_request(path, "application/json", json.dumps(fields).encode(), *headers)


def audio_post(audio: bytes, fields: dict[str, str] | None = None, *headers: str) -> bytes:
    """POST /identify with audio and form fields, the fields first."""
    return post_request("/identify", f"multipart/form-data; boundary={BOUNDARY}", b"".join(form(audio, fields)), *headers)


def form(audio: bytes, fields: dict[str, str] | None) -> Iterator[bytes]:
    """The body of a multipart request, in parts."""
    for name, value in (fields or {}).items():
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'.encode()
    yield audio
    yield f"\r\n--{BOUNDARY}--\r\n".encode()
