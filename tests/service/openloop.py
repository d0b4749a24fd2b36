"""Open-loop load: requests leave at their times whatever becomes of the others, each over a connection of its own.

A closed loop slows down when the server does, and so hides what overload feels like. Here the delay of an answer counts
from the moment at which its request was due. Any status is an answer; a connection that breaks is one too, with status 0.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx


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
    """One request and its reply."""

    number: int
    seconds: float  # from the moment it was due to the last byte of the answer
    reply: Reply

    @property
    def status(self) -> int:
        return self.reply.status


async def exchange(port: int, data: bytes) -> Reply:
    """Send one request to 127.0.0.1 and read its answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        try:
            writer.write(data)  # not drained: a rejection may come before the body has left
            return await _read_reply(reader)
        finally:
            writer.close()
    except (OSError, EOFError, ValueError):
        return Reply(0, {}, b"")


async def _read_reply(reader: asyncio.StreamReader) -> Reply:
    """Raises EOFError or OSError when the connection ends, ValueError when it does not speak HTTP."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Reply(int(lines[0].split(" ", 2)[1]), headers, body)


async def open_loop(port: int, make: Callable[[int], bytes], *, per_second: float, seconds: float) -> list[Sent]:
    """Send `make(0)`, `make(1)`, ... at a fixed rate for `seconds`; wait for every answer, in the order they were due."""
    began = time.perf_counter()

    async def one(number: int) -> Sent:
        due_at = began + number / per_second
        await asyncio.sleep(due_at - time.perf_counter())
        reply = await exchange(port, make(number))
        return Sent(number, time.perf_counter() - due_at, reply)

    async with asyncio.timeout(seconds + 90):
        return await asyncio.gather(*(one(number) for number in range(round(per_second * seconds))))


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; nan of nothing."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def get_request(path: str, *headers: str) -> bytes:
    """A whole GET request."""
    return _raw("GET", path, headers)


def json_post(fields: dict[str, Any], *headers: str) -> bytes:
    """POST /identify with metadata."""
    return _raw("POST", "/identify", headers, json=fields)


def audio_post(audio: bytes, fields: dict[str, str] | None = None, *headers: str) -> bytes:
    """POST /identify with audio and form fields, the fields first."""
    return _raw("POST", "/identify", headers, data=fields, files={"audio": ("a", audio)})


def _raw(method: str, path: str, headers: tuple[str, ...], **body: Any) -> bytes:
    request = httpx.Request(method, f"http://tests{path}", headers=dict(h.split(": ", 1) for h in headers), **body)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items()), "", ""]
    return "\r\n".join(lines).encode() + request.read()
