"""Bad input gets a clear answer, and the next good request succeeds."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests import audio_samples
from tests.service.live import LiveServer, wait_until
from tests.service.problems import check_problem

GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
TEN_MEGABYTES = 10_000_000
MARKS = "\u0301"


@pytest.fixture(autouse=True)
def _the_next_good_request_succeeds(server: LiveServer, clip: bytes) -> Iterator[None]:
    yield
    response = server.identify(files={"audio": clip}, data=GOOD)
    assert response.status_code == 200, response.text
    assert server.ready().status_code == 200


def as_json(body: bytes | str) -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def form(*parts: tuple[str, bytes | str]) -> dict[str, Any]:
    """Text parts, as bytes where they are no text."""
    return {"files": [(name, (None, value)) for name, value in parts]}


def multipart(body: bytes, boundary: str = "B") -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"}}


def part(name: str, value: bytes, boundary: bytes = b"B") -> bytes:
    return b"--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % (boundary, name.encode(), value)


REFUSALS: dict[str, tuple[dict[str, Any], int, str]] = {
    # nothing
    "empty object": ({"json": {}}, 422, "nothing_given"),
    "nulls": ({"json": {"title": None, "artist": None}}, 422, "nothing_given"),
    "options only": ({"json": {"top_k": 3}}, 422, "nothing_given"),
    "blank title": ({"json": {"title": " \t "}}, 422, "nothing_given"),
    "blank title in a form": (form(("title", "  ")), 422, "nothing_given"),
    "form without parts": (multipart(b"--B--\r\n"), 422, "nothing_given"),
    "digits only": ({"json": {"title": "1999"}}, 422, "nothing_usable"),
    "punctuation only": ({"json": {"title": "!!!", "artist": "…"}}, 422, "nothing_usable"),
    # JSON
    "no JSON": (as_json("title=La vie"), 400, "malformed_json"),
    "empty body": (as_json(""), 400, "malformed_json"),
    "half an object": (as_json('{"title": "La v'), 400, "malformed_json"),
    "two objects": (as_json('{"title": "a"}{"title": "b"}'), 400, "malformed_json"),
    "a list": (as_json('["La vie en rose"]'), 400, "malformed_json"),
    "a string": (as_json('"La vie en rose"'), 400, "malformed_json"),
    "null": (as_json("null"), 400, "malformed_json"),
    "NaN": (as_json('{"title": NaN}'), 400, "malformed_json"),
    "JSON nested too deep": (as_json('{"title": ' + "[" * 50_000 + "]" * 50_000 + "}"), 400, "malformed_json"),
    "JSON in UTF-16": (as_json(json.dumps(GOOD).encode("utf-16")), 400, "malformed_json"),
    "JSON that is not UTF-8": (as_json(b'{"title": "caf\xe9"}'), 400, "malformed_json"),
    "lone surrogate in JSON": (as_json(r'{"title": "a\ud800b"}'), 400, "malformed_json"),
    # wrong types
    "title is a number": ({"json": {"title": 1999}}, 422, "invalid_metadata"),
    "title is a list": ({"json": {"title": ["La vie"]}}, 422, "invalid_metadata"),
    "title is an object": ({"json": {"artist": {"name": "Édith"}}}, 422, "invalid_metadata"),
    "title is a boolean": ({"json": {"album": True}}, 422, "invalid_metadata"),
    "top_k is a word": ({"json": GOOD | {"top_k": "many"}}, 422, "invalid_option"),
    "top_k is a fraction": ({"json": GOOD | {"top_k": 1.5}}, 422, "invalid_option"),
    "top_k is a boolean": ({"json": GOOD | {"top_k": True}}, 422, "invalid_option"),
    "top_k is a list": ({"json": GOOD | {"top_k": [3]}}, 422, "invalid_option"),
    "languages is a number": ({"json": GOOD | {"languages": 5}}, 422, "invalid_option"),
    "languages holds a number": ({"json": GOOD | {"languages": ["en", 5]}}, 422, "invalid_option"),
    "languages is an empty list": ({"json": GOOD | {"languages": []}}, 422, "invalid_option"),
    "timeline is a word": ({"json": GOOD | {"timeline": "perhaps"}}, 422, "invalid_option"),
    "explain is an object": ({"json": GOOD | {"explain": {}}}, 422, "invalid_option"),
    # options
    "unknown member": ({"json": GOOD | {"topk": 3}}, 422, "invalid_option"),
    "unknown part": (form(("title", "La vie"), ("topk", "3")), 422, "invalid_option"),
    "unknown query option": ({"json": GOOD, "params": {"topk": "3"}}, 422, "invalid_option"),
    "metadata in the query": ({"json": {}, "params": {"title": "La vie"}}, 422, "invalid_option"),
    "negative top_k": ({"json": GOOD | {"top_k": -1}}, 422, "invalid_option"),
    "top_k of zero": ({"json": GOOD, "params": {"top_k": "0"}}, 422, "invalid_option"),
    "option that is not ASCII": (form(("title", "La vie"), ("top_k", "３")), 422, "invalid_option"),
    "windows of zero": ({"json": GOOD | {"windows": 0}}, 422, "invalid_option"),
    "more windows than there may be": ({"json": GOOD | {"windows": 257}}, 422, "invalid_option"),
    "unknown candidate": ({"json": GOOD | {"languages": "en,tlh"}}, 422, "unknown_language"),
    "blank candidate": ({"json": GOOD | {"languages": "en,,fr"}}, 422, "unknown_language"),
    "candidate by name": ({"json": GOOD, "params": {"languages": "French"}}, 422, "unknown_language"),
    "option in query and body": ({"json": GOOD | {"top_k": 3}, "params": {"top_k": "4"}}, 422, "duplicate_part"),
    "query option twice": ({"json": GOOD, "params": [("top_k", "3"), ("top_k", "4")]}, 422, "duplicate_part"),
    # content type and form
    "plain text": ({"content": "La vie", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_content_type"),
    "no content type": ({"content": b"{}"}, 415, "unsupported_content_type"),
    "nothing at all": ({}, 415, "unsupported_content_type"),
    "urlencoded form": ({"data": GOOD}, 415, "unsupported_content_type"),
    "bare audio": ({"content": b"ID3", "headers": {"Content-Type": "audio/mpeg"}}, 415, "unsupported_content_type"),
    "form without boundary": (
        {"content": b"--B--", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "malformed_multipart",
    ),
    "another boundary": (multipart(part("title", b"La vie") + b"--B--\r\n", "C"), 400, "malformed_multipart"),
    "very long boundary": (multipart(b"", "x" * 5000), 400, "malformed_multipart"),
    "form that ends early": (multipart(part("title", b"La vie")), 400, "malformed_multipart"),
    "form that ends within audio": (multipart(part("audio", b"RIFF....")[:-2]), 400, "malformed_multipart"),
    "empty form": (multipart(b""), 400, "malformed_multipart"),
    "part without a name": (
        multipart(b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n"),
        400,
        "malformed_multipart",
    ),
    "part without headers": (multipart(b"--B\r\n\r\nx\r\n--B--\r\n"), 400, "malformed_multipart"),
    "part with a huge header": (
        multipart(b"--B\r\nContent-Disposition: form-data; name=title; x=" + b"y" * 5_000_000),
        400,
        "malformed_multipart",
    ),
    "part with a thousand headers": (multipart(b"--B\r\n" + b"A: b\r\n" * 1000), 400, "malformed_multipart"),
    "two audio parts": (
        multipart(part("audio", b"RIFF") + part("audio", b"RIFF") + b"--B--\r\n"),
        422,
        "duplicate_part",
    ),
    "two titles": (form(("title", "La vie"), ("title", "en rose")), 422, "duplicate_part"),
    # text
    "title that is not UTF-8": (form(("title", b"caf\xe9")), 422, "invalid_metadata"),
    "lone surrogate in a form": (form(("artist", b"a\xed\xa0\x80b")), 422, "invalid_metadata"),
    "NUL in JSON": ({"json": {"title": "La\0vie"}}, 422, "invalid_metadata"),
    "NUL in a form": (form(("album", b"La\0vie")), 422, "invalid_metadata"),
    "50 combining marks": ({"json": {"title": f"e{MARKS * 50}"}}, 422, "invalid_metadata"),
    "50 combining marks in a form": (form(("title", f"e{MARKS * 50}")), 422, "invalid_metadata"),
    "10 MB title": ({"json": {"title": "a" * TEN_MEGABYTES}}, 413, "metadata_too_long"),
    "10 MB title in a form": (form(("title", "a" * TEN_MEGABYTES)), 413, "metadata_too_long"),
    "title a little too long": ({"json": {"title": "a" * 1001}}, 413, "metadata_too_long"),
    "title a little too long in a form": (form(("title", "é" * 1001)), 413, "metadata_too_long"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(server: LiveServer, name: str) -> None:
    request, status, code = REFUSALS[name]
    before = server.metric("lrid_requests_total", outcome=code)
    check_problem(server.identify(**request), status, code)
    assert server.metric("lrid_requests_total", outcome=code) == before + 1


@pytest.mark.parametrize("name", audio_samples.HOSTILE)
def test_audio_refused(server: LiveServer, name: str) -> None:
    make, code = audio_samples.HOSTILE[name]
    before = server.metric("lrid_decode_failures_total", reason=code)
    response = server.identify(files={"audio": ("song.wav", make(), "audio/wav")}, data=GOOD)
    check_problem(response, {"audio_unknown_format": 415, "audio_too_long": 413}.get(code, 422), code)
    assert server.metric("lrid_decode_failures_total", reason=code) == before + 1


@pytest.mark.parametrize("text", [{}, {"title": "1999"}])
def test_silence_only(server: LiveServer, text: dict[str, str]) -> None:
    silence = audio_samples.wav(audio_samples.tone(peak=0.0))
    check_problem(server.identify(files={"audio": silence}, data=text), 422, "nothing_usable")


def test_marks_and_lengths_that_are_still_text(server: LiveServer) -> None:
    """The bounds refuse nothing that people write: 1,000 characters, vowel signs, stacked accents."""
    for title in ("à é î õ ü " * 100, "สวัสดีปีใหม่", "Tiếng Việt", f"e{MARKS * 10}", "👩‍👩‍👧‍👦 la famille"):
        assert server.identify(json={"title": title}).status_code == 200, title


# --- large and broken uploads -----------------------------------------------------------------------------------------

HUNDRED_KILOBYTES = bytes(100_000)
TWO_HUNDRED_MEGABYTES = 200_000_000


def endless_audio() -> Iterator[bytes]:
    yield b"--B\r\nContent-Disposition: form-data; name=audio; filename=song.wav\r\n\r\n"
    yield audio_samples.wav_header(data_bytes=TWO_HUNDRED_MEGABYTES, body=b"")
    for _ in range(TWO_HUNDRED_MEGABYTES // len(HUNDRED_KILOBYTES)):
        yield HUNDRED_KILOBYTES
    yield b"\r\n--B--\r\n"


def test_200_megabytes_of_unknown_length(server: LiveServer) -> None:
    """At most the accepted 64 MB are held, not what is sent, and they are given back."""
    before = server.peak_memory_mb()
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    check_problem(server.identify(content=endless_audio(), headers=headers), 413, "upload_too_large")
    assert server.peak_memory_mb() < before + 100


def test_200_megabytes_of_stated_length(server: LiveServer) -> None:
    """Refused by the header alone: the answer comes before the body."""
    before = server.peak_memory_mb()
    with connect(server) as connection:
        connection.sendall(identify_head("multipart/form-data; boundary=B", TWO_HUNDRED_MEGABYTES))
        check_raw_problem(connection, 413, "upload_too_large")
    assert server.peak_memory_mb() < before + 10


def check_raw_problem(connection: socket.socket, status: int, code: str) -> None:
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert (response.status, response.headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(response.read())
    assert problem["code"] == code
    assert problem["remedy"]


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def identify_head(content_type: str, length: int, request_id: str = "raw") -> bytes:
    return (
        f"POST /identify HTTP/1.1\r\nHost: test\r\nX-Request-Id: {request_id}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("half_close", [False, True])
@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=B", "application/json"])
def test_upload_cut_off_half_way(server: LiveServer, song: bytes, content_type: str, half_close: bool) -> None:
    before = server.metric("lrid_requests_total", outcome="client_gone")
    body = part("audio", song) if "multipart" in content_type else b'{"title": "La vie", "artist": "'
    request_id = f"cut-{half_close}-{len(body)}"
    with connect(server) as connection:
        connection.sendall(identify_head(content_type, 2 * len(body), request_id) + body)
        wait_until(lambda: server.metric("lrid_in_flight_requests") == 1)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65_536)
    wait_until(lambda: server.metric("lrid_requests_total", outcome="client_gone") == before + 1)
    assert server.metric("lrid_in_flight_requests") == 0
    assert server.access_line(request_id)["code"] == "client_gone"


def test_not_http(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("head", [b"GET /?", b"GET / HTTP/1.1\r\nX-Long: ", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000])
def test_endless_head(server: LiveServer, head: bytes) -> None:
    before = server.peak_memory_mb()
    with connect(server) as connection:
        connection.sendall(head)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                connection.sendall(b"a" * 10_000)
            pytest.fail("10 MB of headers were swallowed")
    assert server.peak_memory_mb() < before + 10


def test_head_that_is_too_large(server: LiveServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 70_000)
        check_raw_problem(connection, 431, "headers_too_large")
