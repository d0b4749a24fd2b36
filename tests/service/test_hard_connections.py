"""Slow, odd and hostile connections: nobody else notices, and none of them stays for ever."""

import contextlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.faulty import clip
from tests.service.hard import connect, receive_all, start
from tests.service.live import SETTINGS, LiveServer, wait_until
from tests.service.openloop import audio_post, get_request, json_post

GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
LET_GO_SECONDS = 25.0  # the bounds are 10 s for headers, 5 s between requests, 10 s for the rest of a refused body


@pytest.fixture(autouse=True)
def _the_next_good_request_succeeds(server: LiveServer) -> Iterator[None]:
    yield
    assert server.identify(json=GOOD).status_code == 200


def closed_within(connection: socket.socket, seconds: float = LET_GO_SECONDS) -> float:
    """Seconds until the server closes. Whatever it says before is thrown away."""
    began = time.monotonic()
    connection.settimeout(seconds)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        receive_all(connection)
    return time.monotonic() - began


def responses(connection: socket.socket) -> Iterator[tuple[int, dict[str, Any]]]:
    """Status and JSON body of one response after the other."""
    with connection.makefile("rb") as file:
        while line := file.readline():
            status, length = int(line.split()[1]), 0
            while (line := file.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            yield status, json.loads(file.read(length))


def read_response(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    return next(responses(connection))


def median_seconds(live: LiveServer, n: int = 30) -> float:
    def one() -> float:
        began = time.monotonic()
        assert live.identify(json=GOOD).status_code == 200
        return time.monotonic() - began

    return statistics.median(one() for _ in range(n))


# --- slow -------------------------------------------------------------------------------------------------------------


def test_many_that_say_nothing_or_dawdle(server: LiveServer) -> None:
    """Six hundred idle connections, slow headers and slow bodies beside a client who must not feel them."""
    before = median_seconds(server)
    files = psutil.Process(server.process.pid).num_fds()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(400)]
        heads = [stack.enter_context(connect(server)) for _ in range(100)]
        bodies = [stack.enter_context(connect(server)) for _ in range(100)]
        upload = audio_post(clip(0.3))
        for connection in heads:
            connection.sendall(b"POST /identify HTTP/1.1\r\nX-Slow: ")
        for connection in bodies:
            connection.sendall(upload[:1500])
        during = median_seconds(server)
        for connection in [*heads, *bodies]:
            connection.sendall(b"a")
        assert during < 5 * before + 0.05
        for connection in [*idle, *heads]:
            assert closed_within(connection) < LET_GO_SECONDS
    wait_until(lambda: psutil.Process(server.process.pid).num_fds() <= files + 5)


def line_ends(connection: socket.socket) -> None:
    connection.sendall(json_post(GOOD))
    assert read_response(connection)[0] == 200
    connection.sendall(b"\r\n")


def refused_bodies(connection: socket.socket) -> None:
    """The rest of one is read and thrown away; then the connection can be used."""
    head = b"POST /identify HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 200000\r\n\r\n"
    connection.sendall(head + bytes(1000))
    assert read_response(connection)[0] == 415
    connection.sendall(bytes(199_000))
    connection.sendall(json_post(GOOD))
    assert read_response(connection)[0] == 200
    connection.sendall(head + bytes(1000))
    assert read_response(connection)[0] == 415
    connection.sendall(bytes(199_000))


def a_refused_body_that_never_ends(connection: socket.socket) -> None:
    connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
    assert read_response(connection)[0] == 404


def test_nothing_keeps_a_connection_alive(server: LiveServer) -> None:
    """They wait beside each other, as each takes seconds."""
    with contextlib.ExitStack() as stack:
        waiting = {}
        for send in (line_ends, refused_bodies, a_refused_body_that_never_ends):
            waiting[send.__name__] = stack.enter_context(connect(server))
            send(waiting[send.__name__])
        began = time.monotonic()
        for name, connection in waiting.items():
            closed_within(connection)
            assert time.monotonic() - began < LET_GO_SECONDS, name


def test_who_does_not_read_is_let_go(server: LiveServer) -> None:
    """Many requests in a row, and no answer is ever read: neither memory nor a file descriptor for long."""
    process = psutil.Process(server.process.pid)
    files, before_mb = process.num_fds(), process.memory_info().rss / 1e6
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(connect(server))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(1.0)
            with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                for _ in range(40):
                    connection.sendall(get_request("/openapi.json") * 100)
        assert process.memory_info().rss / 1e6 - before_mb < 60
        wait_until(lambda: process.num_fds() <= files, seconds=LET_GO_SECONDS)


# --- too much ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_of_it", [b"0\r\nX-Trailer: ", b"0\r\n", b"1;extension="])
def test_chunks_that_carry_no_body(server: LiveServer, start_of_it: bytes) -> None:
    """Trailers and chunk extensions without end: bytes that are no body may not go on."""
    filler = b"X: y\r\n" * 10_000 if start_of_it == b"0\r\n" else b"a" * 60_000
    with connect(server) as connection:
        connection.sendall(
            b"POST /identify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(start_of_it)
        sent = 0
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(200):  # 12 MB
                connection.sendall(filler)
                sent += len(filler)
        assert sent < 200 * len(filler)


# --- odd --------------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(server: LiveServer) -> None:
    titles = ["La vie en rose", "Nel blu dipinto di blu", "99 Luftballons"]
    with connect(server) as connection:
        connection.sendall(b"".join(json_post({"title": title}) for title in titles) + get_request("/health/live"))
        answers = [response for _, response in zip(range(4), responses(connection), strict=False)]
    assert [status for status, _ in answers] == [200] * 4
    for title, (_, answer) in zip(titles, answers, strict=False):
        assert answer["languages"] == server.identify(json={"title": title}).json()["languages"]
    assert answers[3][1]["status"] == "ready"


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_an_upgrade_that_is_not_offered(server: LiveServer, protocol: str) -> None:
    """Some clients ask to upgrade with their first request; HTTP lets a server pass over it."""
    with connect(server) as connection:
        headers = (f"Upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")
        connection.sendall(json_post(GOOD, *headers) + json_post(GOOD))
        (first, body), (second, same) = (next(answers) for answers in [responses(connection)] * 2)
    assert first == second == 200
    assert body["languages"] == same["languages"]


def test_one_byte_at_a_time(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in json_post(GOOD):
            connection.sendall(bytes([byte]))
        assert read_response(connection)[0] == 200


def test_half_closed_is_gone(tiny_store: Path, tmp_path: Path) -> None:
    """Who shuts down its side is taken for gone: HTTP over TCP has no other sign. So are all requests in a pipeline."""
    live, device = start(tiny_store, tmp_path)
    with live:
        live.wait_until_ready()
        device.hold()
        with connect(live) as occupying, connect(live) as leaving, connect(live) as pipelining:
            occupying.sendall(audio_post(clip(0.3)))
            wait_until(lambda: device.passes and device.passes[-1] == [0.3])
            leaving.sendall(audio_post(clip(0.71)))
            pipelining.sendall(audio_post(clip(0.72)))
            wait_until(lambda: live.metric("lrid_queue_items") == 2)
            pipelining.sendall(audio_post(clip(0.73, seconds=0.3)))  # a body of more than 64 kB would stop the reading
            leaving.shutdown(socket.SHUT_WR)
            pipelining.close()
            wait_until(lambda: live.metric("lrid_queue_items") == 0)
            device.release()
            assert read_response(occupying)[0] == 200
        wait_until(lambda: live.metric("lrid_requests_total", outcome="client_gone") == 2)
        assert live.metric("lrid_dropped_windows_total") == 2
        assert not any(device.heard(peak) for peak in (0.71, 0.72, 0.73))


# --- too many ---------------------------------------------------------------------------------------------------------

_START_WITH_FEW_FILES = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
sys.argv = ["lrid", "serve", "--port", sys.argv[1]]
runpy.run_module("app.cli", run_name="__main__")
"""


def test_more_connections_than_file_descriptors(tiny_store: Path, tmp_path: Path) -> None:
    """Those beyond the limit wait; the server neither dies nor spins, and serves again as soon as some have left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | SETTINGS | {"LRID_MODEL_STORE": str(tiny_store)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", _START_WITH_FEW_FILES, str(port)], env=environment, stderr=log)
    try:
        wait_until(lambda: is_ready(port))
        connections = []
        for _ in range(250):
            connection = socket.create_connection(("127.0.0.1", port))
            connections.append(connection)
        before = psutil.Process(process.pid).cpu_times()
        time.sleep(2)
        after = psutil.Process(process.pid).cpu_times()
        assert after.user + after.system - before.user - before.system < 1.5  # of 2 s
        for connection in connections:
            connection.close()
        wait_until(lambda: is_ready(port), seconds=30)
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300


def is_ready(port: int) -> bool:
    with contextlib.suppress(OSError, IndexError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(get_request("/health/ready", "Connection: close"))
        return connection.recv(100).split()[1] == b"200"
    return False
