"""POST /identify/batch: lines in, lines out, in order, one at a time or a great many."""

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.service.live import LiveServer, wait_until
from tests.service.problems import check_problem

NDJSON = {"Content-Type": "application/x-ndjson"}
NAMES = {"title": "Quand il me prend dans ses bras", "artist": "Édith Piaf"}


def line(fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def ask(server: LiveServer, body: bytes, **request: Any) -> list[dict[str, Any]]:
    headers = NDJSON | request.pop("headers", {})
    response = server.client.post("/identify/batch", content=body, headers=headers, **request)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(one) for one in response.text.splitlines()]


def test_answers_as_identify_does(server: LiveServer) -> None:
    alone = server.identify(json=NAMES | {"top_k": 2}).json()
    (found,) = ask(server, line(NAMES | {"id": "a", "top_k": 2}))
    assert found.pop("id") == "a"
    assert set(found) == set(alone)
    assert {name: found[name] for name in found.keys() - {"timing_ms"}} == {
        name: alone[name] for name in alone.keys() - {"timing_ms"}
    }


def test_order_ids_and_options_of_all(server: LiveServer) -> None:
    lines = [{"id": i if i % 2 else f"row {i}", "title": f"La vie {'en rose' * (i % 7)}"} for i in range(50)]
    before = server.metric("lrid_requests_total", outcome="ok", modalities="text")
    found = ask(server, b"\r\n".join(line(fields) for fields in lines), params={"top_k": 1})  # blank lines are left out
    assert [one["id"] for one in found] == [fields["id"] for fields in lines]
    assert {len(one["languages"]) for one in found} == {1}
    assert server.metric("lrid_requests_total", outcome="ok", modalities="text") == before + 50
    assert server.metric("lrid_in_flight_requests") == 0


BAD = {
    "malformed_json": b'{"title": "La v\n',
    "nothing_given": line({"id": 7}),
    "nothing_usable": line({"id": 7, "title": "1999"}),
    "invalid_metadata": line({"id": 7, "title": 5}),
    "metadata_too_long": line({"id": 7, "title": "a" * 1001}),
    "unknown_language": line({"id": 7, "title": "a", "languages": "tlh"}),
    "duplicate_part": b'{"id": 7, "title": "a", "title": "b"}\n',
    "invalid_option": line({"id": True, "title": "a"}),
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_line_fails_alone(server: LiveServer, code: str) -> None:
    good = line(NAMES | {"id": "good"})
    before = server.metric("lrid_requests_total", outcome=code)
    first, bad, last = ask(server, good + BAD[code] + good)
    assert first["languages"] == last["languages"]
    assert (first["id"], last["id"]) == ("good", "good")
    assert set(bad) == {"id", "type", "title", "status", "detail", "code", "remedy", "request_id"}
    assert bad["code"] == code
    assert bad["id"] == (None if code in {"malformed_json", "duplicate_part", "invalid_option"} else 7)
    assert server.metric("lrid_requests_total", outcome=code) == before + 1


@pytest.mark.parametrize(
    "bad", [line([1]), line({"id": "x" * 257, "title": "a"}), line({"id": [1], "title": "a"}), line(NAMES | {"audio": "x"})]
)
def test_lines_that_are_no_requests(server: LiveServer, bad: bytes) -> None:
    assert [one.get("code") for one in ask(server, bad + line(NAMES))][1] is None


def test_a_line_without_end(server: LiveServer) -> None:
    before = server.peak_memory_mb()

    def body() -> Iterator[bytes]:
        yield b'{"title": "'
        yield from (b"a" * 100_000 for _ in range(300))
        yield b'"}\n' + line(NAMES)

    response = server.client.post("/identify/batch", content=body(), headers=NDJSON)
    bad, good = (json.loads(one) for one in response.text.splitlines())
    assert (bad["code"], bad["id"]) == ("metadata_too_long", None)
    assert good["languages"]
    assert server.peak_memory_mb() < before + 10


def test_the_batch_as_a_whole(server: LiveServer) -> None:
    def post(**request: Any) -> Any:
        return server.client.post("/identify/batch", **request)

    check_problem(post(json=NAMES), 415, "unsupported_content_type")
    check_problem(post(content=line(NAMES), headers=NDJSON, params={"topk": 1}), 422, "invalid_option")
    check_problem(post(content=line(NAMES), headers=NDJSON | {"X-Request-Timeout": "soon"}), 422, "invalid_option")
    check_problem(post(content=b"", headers=NDJSON | {"Content-Encoding": "br"}), 415, "unsupported_content_type")
    assert ask(server, b"") == ask(server, b"\n \n") == []
    assert ask(server, line(NAMES | {"top_k": 1}), params={"top_k": 2})[0]["code"] == "duplicate_part"
    assert ask(server, line(NAMES).rstrip())[0]["languages"]  # the last line needs no end


def test_gzip(server: LiveServer) -> None:
    body = gzip.compress(line(NAMES) * 100)
    assert len(ask(server, body, headers={"Content-Encoding": "gzip"})) == 100
    *answers, last = ask(server, body[:-9], headers={"Content-Encoding": "gzip"})
    assert (last["id"], last["code"]) == (None, "malformed_encoding")
    assert all(one["languages"] for one in answers)


# --- while it goes ----------------------------------------------------------------------------------------------------


class Conversation:
    """One batch on a socket: lines go and answers come at the same time."""

    def __init__(self, server: LiveServer, request_id: str = "talk") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self.socket.sendall(
            b"POST /identify/batch?top_k=1 HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n"
            b"Transfer-Encoding: chunked\r\nX-Request-Id: " + request_id.encode() + b"\r\n\r\n"
        )
        self.response: http.client.HTTPResponse | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.response is not None:
            self.response.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def read(self) -> Any:
        if self.response is None:
            self.response = http.client.HTTPResponse(self.socket)
            self.response.begin()
        return json.loads(self.response.readline() or "null")


def test_each_line_is_answered_as_it_comes(server: LiveServer) -> None:
    with Conversation(server) as talk:
        for i in range(5):
            talk.send(line(NAMES | {"id": i}))
            assert talk.read()["id"] == i
        talk.end()
        assert talk.read() is None


def send_all(talk: Conversation, pieces: Iterable[bytes]) -> threading.Thread:
    def run() -> None:
        for piece in pieces:
            talk.send(piece)
        talk.end()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def numbered(i: int) -> bytes:
    return line({"id": i} | (NAMES if i % 200 == 0 else {}))


def test_many_lines_in_constant_memory(server: LiveServer) -> None:
    """Most of them hold nothing, which is quicker than to read them with the tests' release."""
    n, per_piece = 20_000, 500
    pieces = (b"".join(map(numbered, range(at, at + per_piece))) for at in range(0, n, per_piece))
    ask(server, b"".join(map(numbered, range(1000))))
    before = server.peak_memory_mb()
    with Conversation(server) as talk:
        sender = send_all(talk, pieces)
        assert [talk.read()["id"] for _ in range(n)] == list(range(n))
        assert talk.read() is None
        sender.join(60)
    assert server.peak_memory_mb() < before + 5


def test_who_does_not_read_is_not_read_either(server: LiveServer) -> None:
    """Back-pressure: the socket of a client that takes no answers fills up, and it is closed after a while."""
    sent_bytes, piece = 0, line({"id": "x" * 200}) * 500

    def endless() -> Iterator[bytes]:
        nonlocal sent_bytes
        while True:
            yield piece
            sent_bytes += len(piece)

    before = server.peak_memory_mb()
    with Conversation(server) as talk:
        sender = send_all_until_refused(talk, endless())
        wait_until(lambda: not sender.is_alive())
    assert 0 < sent_bytes < 30_000_000  # what two sockets' buffers hold
    assert server.peak_memory_mb() < before + 5
    wait_until(lambda: server.metric("lrid_in_flight_requests") == 0)


def send_all_until_refused(talk: Conversation, pieces: Iterable[bytes]) -> threading.Thread:
    def run() -> None:
        try:
            for piece in pieces:
                talk.send(piece)
        except OSError:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_client_that_leaves(server: LiveServer) -> None:
    with Conversation(server, "leaver") as talk:
        talk.send(line(NAMES))
        assert talk.read()["languages"]
        assert server.metric("lrid_in_flight_requests") == 1
    assert server.access_line("leaver")["code"] == "client_gone"
    wait_until(lambda: server.metric("lrid_in_flight_requests") == 0)


def test_silence_and_shutdown_are_the_last_line(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, request_timeout_seconds=1) as live:
        live.wait_until_ready()
        with Conversation(live) as talk:
            talk.send(line(NAMES))
            assert talk.read()["languages"]
            last = talk.read()
            assert (last["id"], last["code"]) == (None, "deadline_exceeded")
            assert talk.read() is None
        with Conversation(live) as talk:
            talk.send(line(NAMES))
            assert talk.read()["languages"]
            live.terminate()
            wait_until(lambda: b"draining" in line(say(talk)))
        assert live.exit_code() == 0


def say(talk: Conversation) -> Any:
    talk.send(line(NAMES))
    return talk.read()


def test_not_before_the_release_is_ready(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tmp_path) as live:
        response = live.client.post("/identify/batch", content=line(NAMES), headers=NDJSON)
        check_problem(response, 503, "not_ready")
