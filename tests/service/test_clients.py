"""Every ordinary client is understood: forms of browsers, gzip, byte-order marks, HEAD, slashes, CORS."""

import email.policy
import gzip
import json
import re
from collections.abc import Iterator
from email.mime.audio import MIMEAudio
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import pytest

from tests.service.live import LiveServer
from tests.service.problems import check_problem

NAMES = {"title": "Quand il me prend dans ses bras", "artist": "Édith Piaf"}
OPTIONS = ("top_k", "languages", "windows", "timeline", "explain", "tags")
AS_JSON = {"Content-Type": "application/json"}


def best(server: LiveServer, **request: object) -> list[dict[str, Any]]:
    response = server.identify(**request)
    assert response.status_code == 200, response.text
    return response.json()["languages"]


@pytest.fixture(scope="module")
def expected(server: LiveServer) -> list[dict[str, Any]]:
    return best(server, json=NAMES)


def test_empty_file_input_beside_a_title(server: LiveServer, expected: list[dict[str, Any]]) -> None:
    parts = {name: (None, value) for name, value in NAMES.items()}
    body = (
        b'--B\r\nContent-Disposition: form-data; name="audio"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n"
        + b"".join(
            b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value.encode())
            for name, value in NAMES.items()
        )
        + b"--B--\r\n"
    )
    answer = server.identify(content=body, headers={"Content-Type": "multipart/form-data; boundary=B"}).json()
    assert answer["languages"] == expected == best(server, files=parts | {"audio": (None, "undefined")})
    assert answer["modalities"]["audio"]["reason"] == "not_given"


def test_an_empty_file_is_an_error(server: LiveServer) -> None:
    check_problem(server.identify(files={"audio": ("song.mp3", b"")}, data=NAMES), 422, "audio_empty")


def test_null_and_undefined_are_not_given(server: LiveServer, expected: list[dict[str, Any]]) -> None:
    assert best(server, json=NAMES | dict.fromkeys(OPTIONS)) == expected
    for word in ("null", "undefined", ""):
        fields = NAMES | dict.fromkeys((*OPTIONS, "album"), word)
        assert best(server, files={name: (None, value) for name, value in fields.items()}) == expected
        assert best(server, json=NAMES, params=dict.fromkeys(OPTIONS, word)) == expected
    check_problem(server.identify(json=NAMES | {"top_k": "undefined"}), 422, "invalid_option")


@pytest.mark.parametrize("blank", [" ", "\t\n", " null "])
def test_blanks_are_not_given(server: LiveServer, expected: list[dict[str, Any]], blank: str) -> None:
    fields = NAMES | dict.fromkeys(OPTIONS, blank)
    assert best(server, files={name: (None, value) for name, value in fields.items()}) == expected
    assert best(server, json=NAMES, params=dict.fromkeys(OPTIONS, blank)) == expected
    if not blank.strip():
        assert best(server, json=fields) == expected
    assert len(best(server, json=NAMES | {"top_k": " 2 ", "timeline": " yes\n"})) == 2


@pytest.mark.parametrize(
    ("query", "body"), [("2", 2), ("2", " 2"), ("2", None), ("2", ""), ("en,fr", ["en", "fr"]), ("1", True), ("no", "false")]
)
def test_an_option_said_twice_in_two_ways(server: LiveServer, query: str, body: object) -> None:
    name = {"2": "top_k", "en,fr": "languages"}.get(query, "timeline")
    assert best(server, json=NAMES | {name: body}, params={name: query}) == best(server, json=NAMES, params={name: query})


def test_slash_behind(server: LiveServer, expected: list[dict[str, Any]]) -> None:
    response = server.client.post("/identify/", json=NAMES, follow_redirects=False)
    assert (response.status_code, response.json()["languages"]) == (200, expected)
    lines = server.client.post(
        "/identify/batch/", content=json.dumps(NAMES), headers={"Content-Type": "application/x-ndjson"}
    )
    assert lines.json()["languages"] == expected
    for path in ("/languages", "/docs", "/health/ready", "/v2/models/lrid", "/metrics"):
        assert server.client.get(f"{path}/").status_code == 200
        assert server.client.post(f"{path}/").headers["allow"] == "GET, HEAD"
    assert server.client.post("/identify//", json=NAMES).status_code == 404


def test_latin_1_of_a_part_that_says_so(server: LiveServer) -> None:
    """As Java's HttpClient sends text by default."""
    title = ("title", (None, "Tous les garçons".encode("iso-8859-1"), "text/plain; charset=ISO-8859-1"))
    assert best(server, files=[title]) == best(server, json={"title": "Tous les garçons"})


def test_a_form_of_pythons_mail_library(server: LiveServer, clip: bytes) -> None:
    form = MIMEMultipart("form-data")
    for name, part in (("title", MIMEText("Ça ira", "plain", "utf-8")), ("audio", MIMEAudio(clip, "wav"))):
        part.add_header("Content-Disposition", "form-data", name=name, filename=("" if name == "title" else "x" * 90))
        form.attach(part)
    for lines in (form.as_bytes(), form.as_bytes(policy=email.policy.HTTP)):
        head, _, body = lines.replace(b"\r\n\r\n", b"\n\n", 1).partition(b"\n\n")
        content_type = " ".join(head.decode().replace("Content-Type: ", "").split("MIME-Version")[0].split())
        got = best(server, content=body, headers={"Content-Type": content_type})
        assert got == best(server, files={"audio": clip}, data={"title": "Ça ira"})


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/health/ready", "/health/live", "/metrics", "/languages", "/models", "/openapi.json"]
)
def test_head_where_get_is_answered(server: LiveServer, path: str) -> None:
    got, head = server.client.get(path), server.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    request_id = head.headers["x-request-id"]
    line = server.access_line(request_id)
    assert (line["method"], line["status"]) == ("HEAD", 200)
    assert line["route"] == (None if path == "/openapi.json" else path)  # FastAPI's own page has no pattern


def test_head_elsewhere(server: LiveServer) -> None:
    head = server.client.head("/identify")
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")
    assert server.client.head("/nowhere").status_code == 404


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_byte_order_mark(server: LiveServer, expected: list[dict[str, Any]]) -> None:
    assert best(server, content=b"\xef\xbb\xbf" + json.dumps(NAMES).encode(), headers=AS_JSON) == expected


@pytest.mark.parametrize(
    "body",
    [b'{"title": "a", "title": "b"}', b'{"title": "a", "top_k": 2, "top_k": 2}', b'{"titl\\u0065": "a", "title": "b"}'],
)
def test_repeated_member(server: LiveServer, body: bytes) -> None:
    check_problem(server.identify(content=body, headers=AS_JSON), 422, "duplicate_part")


def test_gzip(server: LiveServer, clip: bytes, expected: list[dict[str, Any]]) -> None:
    zipped = {"Content-Encoding": "gzip"}
    assert best(server, content=gzip.compress(json.dumps(NAMES).encode()), headers=AS_JSON | zipped) == expected
    plain = server.client.build_request("POST", "/identify", files={"audio": ("a.wav", clip)})
    headers = zipped | {"Content-Type": plain.headers["Content-Type"]}
    assert best(server, content=gzip.compress(plain.read()), headers=headers) == best(server, files={"audio": clip})


def test_gzip_bombs_meet_the_bounds_of_what_they_hold(server: LiveServer) -> None:
    before = server.peak_memory_mb()
    headers = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=B"}
    form = b"--B\r\nContent-Disposition: form-data; name=audio; filename=a.wav\r\n\r\n" + bytes(200_000_000)
    check_problem(server.identify(content=gzip.compress(form, 1), headers=headers), 413, "upload_too_large")
    bomb = gzip.compress(b'{"title": "' + bytes(50_000_000), 1)
    check_problem(server.identify(content=bomb, headers=AS_JSON | {"Content-Encoding": "gzip"}), 413, "metadata_too_long")
    assert server.peak_memory_mb() < before + 100


# --- pages of other origins -------------------------------------------------------------------------------------------

PREFLIGHT = {
    "Origin": "https://songs.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, x-api-key, inference-header-content-length",
}


def test_cors_by_setting(tiny_store: Path, tmp_path: Path) -> None:
    origin = PREFLIGHT["Origin"]
    settings: dict[str, Any] = {"cors_origins": f"{origin}/, https://other.example", "api_keys": "key"}
    with LiveServer(tmp_path, model_store=tiny_store, **settings) as live:
        live.wait_until_ready()
        preflight = live.client.options("/identify", headers=PREFLIGHT)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "x-request-id" in preflight.headers
        for key, status in (("key", 200), ("wrong", 401)):
            response = live.identify(json=NAMES, headers={"Origin": origin, "X-API-Key": key})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, origin)
        foreign = live.client.options("/identify", headers=PREFLIGHT | {"Origin": "https://evil.example"})
        assert foreign.status_code == 400
        assert "access-control-allow-origin" not in foreign.headers


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_document_says_how_to_ask(server: LiveServer) -> None:
    document = server.client.get("/openapi.json").json()
    post = document["paths"]["/identify"]["post"]
    parameters = {(one["in"], one["name"]) for one in post["parameters"]}
    assert {("query", name) for name in OPTIONS} | {("header", "X-Request-Timeout")} <= parameters
    assert {scheme["type"] for scheme in document["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    assert {} in document["security"]
    codes = {error["code"] for error in document["x-errors"]}
    assert codes > {"nothing_given", "malformed_encoding"}
    assert not codes & {"folder_unreadable", "tag_refused"}, "those are of the command line"
    (top_k,) = (one["schema"] for one in post["parameters"] if one["name"] == "top_k")
    assert top_k["anyOf"][0] == {"type": "integer", "minimum": 1}


def test_examples_are_answered(server: LiveServer) -> None:
    """With candidates of the release at hand."""
    document = server.client.get("/openapi.json").json()
    examples = document["paths"]["/identify"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        assert server.identify(json=example["value"]).status_code == 200


def test_docs_need_nothing_from_elsewhere(server: LiveServer) -> None:
    page = server.client.get("/docs").text
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)


def test_the_document_is_plain_enough_for_generators(server: LiveServer) -> None:
    """What generators of clients stumble over: arrays without items, path parameters that may be null, ids used twice."""
    document = server.client.get("/openapi.json").json()
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    ids = [one["operationId"] for one in operations]
    assert len(set(ids)) == len(ids)
    in_path = [one for operation in operations for one in operation.get("parameters", []) if one["in"] == "path"]
    assert in_path
    assert [one["name"] for one in in_path if one["schema"]["type"] != "string"] == []
    assert list(arrays_without_items(document)) == []


def arrays_without_items(part: Any) -> Iterator[Any]:
    if isinstance(part, dict):
        if part.get("type") == "array" and not {"items", "prefixItems"} & part.keys():
            yield part
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from arrays_without_items(one)
