"""Who leaves, or whose time is up, costs the device nothing; who cannot be answered in time is told so at once."""

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import audio_samples
from tests.service.faulty import Device, clip
from tests.service.live import LiveServer, wait_until
from tests.service.problems import check_problem

QUEUE_MAX_ITEMS = 6


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    return Device(tmp_path_factory.mktemp("device"))


@pytest.fixture(scope="module")
def server(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory, device: Device) -> Iterator[LiveServer]:
    with LiveServer(
        tmp_path_factory.mktemp("server"),
        module="tests.service.faulty",
        extra=device.environment,
        model_store=tiny_store,
        max_windows=3,
        queue_max_items=QUEUE_MAX_ITEMS,
        decode_workers=1,
    ) as live:
        live.wait_until_ready()
        for _ in range(3):  # the rate that refusals are computed from is measured, not held up by a test
            assert live.identify(files={"audio": clip(0.1)}).status_code == 200
        yield live


@pytest.fixture
def busy(server: LiveServer, device: Device) -> Iterator[Future[httpx.Response]]:
    """A request whose window keeps the device busy until it is released; it is answered in the end."""
    device.hold()
    with ThreadPoolExecutor(1) as pool, server.new_client() as client:
        asked = pool.submit(client.post, "/identify", files={"audio": clip(0.9)})
        wait_until(lambda: device.passes and device.passes[-1] == [0.9])
        yield asked
        device.release()
        assert asked.result().status_code == 200
    wait_until(lambda: server.metric("lrid_in_flight_requests") == 0)
    assert server.metric("lrid_queue_items") == 0


def leaving(server: LiveServer, body: bytes) -> http.client.HTTPConnection:
    """A request whose answer nobody has read yet."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    form = b"--B\r\nContent-Disposition: form-data; name=audio; filename=a\r\n\r\n" + body + b"\r\n--B--\r\n"
    connection.request("POST", "/identify", form, {"Content-Type": "multipart/form-data; boundary=B"})
    return connection


def test_client_gone_while_its_windows_wait(server: LiveServer, device: Device, busy: Future[Any]) -> None:
    gone = server.metric("lrid_requests_total", outcome="client_gone")
    dropped = server.metric("lrid_dropped_windows_total")
    stays = ThreadPoolExecutor(1).submit(server.identify, files={"audio": clip(0.31)})
    wait_until(lambda: server.metric("lrid_queue_items") == 1)
    connection = leaving(server, audio_samples.wav(0.32 * audio_samples.song(61, 22_050, 1), "FLOAT", 22_050))
    wait_until(lambda: server.metric("lrid_queue_items") == 4)  # 3 windows of it
    connection.close()
    wait_until(lambda: server.metric("lrid_requests_total", outcome="client_gone") == gone + 1)
    assert server.metric("lrid_queue_items") == 1  # they no longer count, though the device is still busy
    passes = len(device.passes)
    device.release()
    assert stays.result().status_code == 200
    wait_until(lambda: server.metric("lrid_dropped_windows_total") == dropped + 3)
    assert device.passes[passes:] == [[0.31]]


def test_client_gone_while_decoding(server: LiveServer, device: Device) -> None:
    """The decoder, which hangs here, is replaced, and the next file does not wait for it."""
    gone = server.metric("lrid_requests_total", outcome="client_gone")
    (decoder,) = server.children()
    decoder.suspend()
    connection = leaving(server, clip(0.41))
    wait_until(lambda: server.metric("lrid_decoding_requests") == 1)
    connection.close()
    wait_until(lambda: server.metric("lrid_requests_total", outcome="client_gone") == gone + 1)
    assert server.metric("lrid_decoding_requests") == 0
    answer = server.identify(files={"audio": clip(0.42)})
    assert answer.status_code == 200, answer.text
    assert not device.heard(0.41)
    assert decoder not in server.children()


def test_deadline_passes_in_the_queue(server: LiveServer, device: Device, busy: Future[Any]) -> None:
    dropped = server.metric("lrid_dropped_windows_total")
    started = time.monotonic()
    response = server.identify(files={"audio": clip(0.51)}, headers={"X-Request-Timeout": "4"})
    seconds = time.monotonic() - started
    check_problem(response, 504, "deadline_exceeded")
    assert 3.9 < seconds < 8  # the upper bound allows for a busy machine
    device.release()
    wait_until(lambda: server.metric("lrid_dropped_windows_total") == dropped + 1)
    assert server.identify(files={"audio": clip(0.52)}).status_code == 200
    assert device.heard(0.52)
    assert not device.heard(0.51)


def queue(server: LiveServer, pool: ThreadPoolExecutor, peaks: list[float]) -> list[Future[httpx.Response]]:
    """One request after another: while files are being decoded they count for more than one window each."""
    asked = []
    for peak in peaks:
        asked.append(pool.submit(server.identify, files={"audio": clip(peak)}))
        wait_until(lambda: server.metric("lrid_queue_items") == len(asked))
    return asked


def test_who_cannot_be_answered_in_time_is_refused_at_the_door(
    server: LiveServer, device: Device, busy: Future[Any]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        waiting = queue(server, pool, [0.8] * 4)
        response = server.identify(files={"audio": clip(0.81)}, headers={"X-Request-Timeout": "0.1"})
        check_problem(response, 429, "queue_full")
        assert "deadline" in response.json()["detail"]
        device.release()
        assert [future.result().status_code for future in waiting] == [200] * 4
    assert not device.heard(0.81)
