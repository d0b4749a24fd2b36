"""LridClient against a real server, and against one that is full or away."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

from app.client import AsyncLridClient, ClientError, LridClient, Options, RequestRefused, ServerUnreachable
from app.client.batch import Row
from tests.service.live import LiveServer

ROWS = [{"id": f"row {n}", "title": f"La vie en rose {n}"} for n in range(1300)]


@pytest.fixture
def client(server: LiveServer) -> Iterator[LridClient]:
    with LridClient(str(server.client.base_url)) as lrid:
        yield lrid


def test_a_file_by_its_path(client: LridClient, song: bytes, tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(song)
    answer = client.identify(tmp_path / "song.mp3", title="La vie", options=Options(windows=2, timeline=True, top_k=3))
    assert len(answer.languages) == 3
    assert answer.modalities.text.source == "request"
    assert answer.timeline
    assert client.identify(song).modalities.audio.used


def test_names_and_candidates(client: LridClient) -> None:
    answer = client.identify(artist="Edith Piaf", options=Options(languages=("fr", "en")))
    assert {language.code for language in answer.languages if language.probability} <= {"fr", "en"}
    assert "fr" in {language.code for language in client.languages().languages}


def test_a_refusal_is_typed(client: LridClient, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused) as caught:
        client.identify(b"not audio at all")
    assert caught.value.code == "audio_unknown_format"
    assert caught.value.problem.remedy in str(caught.value)
    with pytest.raises(OSError, match="No such file"):
        client.identify(tmp_path / "none.mp3")


def test_rows_of_a_batch_fail_alone_and_keep_their_order(client: LridClient) -> None:
    rows: list[Row] = [*ROWS, {"id": 7, "title": "a" * 200_000}, {"title": None}]
    answers = list(client.identify_batch(rows, Options(top_k=1)))
    assert [answer.id for answer in answers] == [*[row["id"] for row in ROWS], 7, None]
    assert all(answer.answer for answer in answers[: len(ROWS)])
    assert [answer.problem.code for answer in answers[len(ROWS) :] if answer.problem] == [
        "metadata_too_long",
        "nothing_given",
    ]
    with pytest.raises(TypeError, match="id"):
        list(client.identify_batch([{"id": 1.5, "title": "a"}]))


def test_asynchronous(server: LiveServer, song: bytes, tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(song)

    async def asked() -> tuple[int, int]:
        async with AsyncLridClient(str(server.client.base_url)) as lrid:
            both = await asyncio.gather(lrid.identify(tmp_path / "song.mp3"), lrid.identify(title="La vie"))
            answers = [answer async for answer in lrid.identify_batch(ROWS[:600], Options(top_k=1))]
            assert (await lrid.languages()).languages
            return both[0].modalities.audio.windows, len(answers)

    windows, n = asyncio.run(asked())
    assert windows > 0
    assert n == 600


Script = list[tuple[int, str | None, bytes]]


class Scripted(ThreadingHTTPServer):
    """Answers each POST by the next (status, Retry-After, body); the last one stays."""

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.asked: list[tuple[float, str | None, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((time.monotonic(), self.headers["X-Request-Timeout"], body))
        status, retry_after, answer = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def problem(code: str, status: int) -> bytes:
    text = f'"type":"","title":"","status":{status},"detail":"d","code":"{code}","remedy":"r","request_id":""'
    return f'{{"id":null,{text}}}'.encode()


FULL = (429, "1", problem("queue_full", 429))


@pytest.fixture
def answer(client: LridClient) -> bytes:
    return client.identify(title="La vie en rose").model_dump_json().encode()


def test_retry_after_is_obeyed_and_the_deadline_shrinks(answer: bytes) -> None:
    with Scripted([FULL, (200, None, answer)]) as full, LridClient(full.url, timeout_seconds=20) as lrid:
        assert lrid.identify(title="La vie").language
        (first, before, _), (second, after, _) = full.asked
        assert 0.95 <= second - first < 5
        assert float(before or 0) <= 20
        assert float(after or 0) <= float(before or 0) - 0.95


def test_no_wait_beyond_the_deadline() -> None:
    script: Script = [(429, "30", problem("queue_full", 429))]
    with Scripted(script) as full, LridClient(full.url, timeout_seconds=2) as lrid:
        with pytest.raises(RequestRefused) as caught:
            lrid.identify(title="La vie")
        assert caught.value.retry_after_seconds == 30
        assert len(full.asked) == 1


def test_what_is_no_use_is_not_tried_again() -> None:
    with Scripted([(504, None, problem("deadline_exceeded", 504))]) as late, LridClient(late.url) as lrid:
        with pytest.raises(RequestRefused, match="deadline_exceeded"):
            lrid.identify(title="La vie")
        assert len(late.asked) == 1


def test_a_server_that_comes_back_gets_the_rows_that_are_left(answer: bytes) -> None:
    line = b'{"id":0,' + answer[1:] + b"\n"
    script = [
        (200, None, line + problem("draining", 503) + b"\n"),
        (503, "0", problem("draining", 503)),
        (200, None, line * 2),
    ]
    with Scripted(script) as leaving, LridClient(leaving.url) as lrid:
        answers = list(lrid.identify_batch(ROWS[:3]))
        assert [row.id for row in answers] == ["row 0", "row 1", "row 2"]
        assert [body.count(b"\n") for *_, body in leaving.asked] == [3, 2, 2]


def test_a_server_that_is_away_or_another_one() -> None:
    with (
        Scripted([(200, None, b"<html>")]) as other,
        LridClient(other.url) as lrid,
        pytest.raises(ClientError, match="is the address right"),
    ):
        lrid.identify(title="La vie")
    with LridClient(other.url, timeout_seconds=0.6) as lrid, pytest.raises(ServerUnreachable, match="does not answer"):
        lrid.identify(title="La vie")
    with Scripted([(502, None, b"<html>")]) as proxy, LridClient(proxy.url, timeout_seconds=0.6) as lrid:
        with pytest.raises(ClientError, match="502"):
            lrid.identify(title="La vie")
        assert len(proxy.asked) > 1


@pytest.mark.parametrize("url", ["localhost:8000", "music.example"])
def test_an_address_that_is_no_url_is_refused_at_once(url: str) -> None:
    started = time.monotonic()
    with LridClient(url, timeout_seconds=30) as lrid, pytest.raises(ServerUnreachable, match="expected a URL such as http"):
        lrid.identify(title="La vie en rose")
    assert time.monotonic() - started < 15
