"""One absolute deadline a request: refused at the door, dropped from the queue, never answered much later."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.faulty import Device, clip
from tests.service.hard import ask_all, start
from tests.service.live import LiveServer
from tests.service.openloop import Reply, audio_post

LATE_SECONDS = 2.0  # of grace on a busy machine; loadtest.chaos measures against 0.05
Slow = tuple[LiveServer, Device]


@pytest.fixture(scope="module")
def slow(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    live, device = start(tiny_store, tmp_path_factory.mktemp("slow"))
    with live:
        yield live.wait_until_ready(), device


def timed(live: LiveServer, request: bytes) -> tuple[Reply, float]:
    began = time.monotonic()
    (reply,) = ask_all(live.port, [request])
    return reply, time.monotonic() - began


def test_while_the_device_works_on_it(slow: Slow) -> None:
    live, device = slow
    device.hold()
    reply, seconds = timed(live, audio_post(clip(0.3), None, "X-Request-Timeout: 1"))
    device.release()
    assert (reply.status, reply.json()["code"]) == (504, "deadline_exceeded")
    assert 1.0 <= seconds < 1.0 + LATE_SECONDS


def test_during_the_upload(slow: Slow) -> None:
    live, _ = slow
    data = audio_post(clip(0.3), None, "X-Request-Timeout: 1")

    async def run() -> tuple[bytes, float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        began = time.monotonic()
        writer.write(data[:1000])
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return answer, time.monotonic() - began

    answer, seconds = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert 1.0 <= seconds < 1.0 + LATE_SECONDS


def test_a_longer_one_than_the_server_allows_is_the_servers(tiny_store: Path, tmp_path: Path) -> None:
    live, device = start(tiny_store, tmp_path, request_timeout_seconds=1)
    with live:
        live.wait_until_ready()
        device.hold()
        reply, seconds = timed(live, audio_post(clip(0.3), None, "X-Request-Timeout: 1e9"))
        assert (reply.status, reply.json()["code"]) == (504, "deadline_exceeded")
        assert 1.0 <= seconds < 1.0 + LATE_SECONDS
        device.release()
