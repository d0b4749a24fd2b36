"""One absolute deadline a request: refused at the door, dropped from the queue, never answered much later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.faulty import Device, clip
from tests.service.hard import ask_all, start
from tests.service.live import LiveServer, wait_until
from tests.service.openloop import Connections, Reply, audio_post

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


def test_while_it_waits_for_the_device(slow: Slow) -> None:
    live, device = slow
    device.hold()
    dropped = live.metric("lrid_dropped_windows_total")

    async def run() -> tuple[Reply, float]:
        connections = Connections(live.port)
        first = asyncio.create_task(connections.exchange(audio_post(clip(0.3))))
        await asyncio.to_thread(wait_until, lambda: device.passes and device.passes[-1] == [0.3])
        began = time.monotonic()
        late = await connections.exchange(audio_post(clip(0.77), None, "X-Request-Timeout: 1.5"))
        seconds = time.monotonic() - began
        device.release()
        assert (await first).status == 200
        await connections.close()
        return late, seconds

    late, seconds = asyncio.run(run())
    assert (late.status, late.json()["code"]) == (504, "deadline_exceeded")
    assert 1.5 <= seconds < 1.5 + LATE_SECONDS
    assert ask_all(live.port, [audio_post(clip(0.3))])[0].status == 200
    assert not device.heard(0.77)
    assert live.metric("lrid_dropped_windows_total") == dropped + 1


def test_while_the_device_works_on_it(slow: Slow) -> None:
    live, device = slow
    device.hold()
    reply, seconds = timed(live, audio_post(clip(0.3), None, "X-Request-Timeout: 1"))
    device.release()
    assert (reply.status, reply.json()["code"]) == (504, "deadline_exceeded")
    assert 1.0 <= seconds < 1.0 + LATE_SECONDS


def test_refused_at_the_door_when_it_cannot_be_met(slow: Slow) -> None:
    live, device = slow
    device.pace(0.5)
    for _ in range(8):  # the service learns the pace
        ask_all(live.port, [audio_post(clip(0.3))])

    async def run() -> tuple[Reply, float]:
        connections = Connections(live.port)
        waiting = [asyncio.create_task(connections.exchange(audio_post(clip(0.3)))) for _ in range(8)]
        await asyncio.to_thread(wait_until, lambda: live.metric("lrid_queue_items") >= 6)
        began = time.monotonic()
        refused = await connections.exchange(audio_post(clip(0.78), None, "X-Request-Timeout: 1"))
        seconds = time.monotonic() - began
        device.pace(0)
        assert [reply.status for reply in await asyncio.gather(*waiting)] == [200] * 8
        await connections.close()
        return refused, seconds

    refused, seconds = asyncio.run(run())
    assert (refused.status, refused.json()["code"]) == (429, "queue_full")
    assert "deadline" in refused.json()["detail"]
    assert (refused.retry_after_seconds or 0) >= 1
    assert seconds < 1.0  # at once, not when the deadline has passed
    assert not device.heard(0.78)


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


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon", ""])
def test_timeouts_that_are_none(slow: Slow, value: str) -> None:
    live, _ = slow
    (reply,) = ask_all(live.port, [audio_post(clip(0.3), None, f"X-Request-Timeout: {value}")])
    assert (reply.status, reply.json()["code"]) == (422, "invalid_option")


def test_a_longer_one_than_the_server_allows_is_the_servers(tiny_store: Path, tmp_path: Path) -> None:
    live, device = start(tiny_store, tmp_path, request_timeout_seconds=1)
    with live:
        live.wait_until_ready()
        device.hold()
        reply, seconds = timed(live, audio_post(clip(0.3), None, "X-Request-Timeout: 1e9"))
        assert (reply.status, reply.json()["code"]) == (504, "deadline_exceeded")
        assert 1.0 <= seconds < 1.0 + LATE_SECONDS
        device.release()
