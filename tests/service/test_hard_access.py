"""Lets in only whom it should, and says nothing about anyone."""

import hmac
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.http import access
from tests.service.faulty import clip
from tests.service.hard import connect, receive_all
from tests.service.live import LiveServer
from tests.service.problems import check_problem

OLD, NEW, ADMIN = "old-key-of-a-client", "new-key-of-a-client", "key-of-the-operator"
GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
PER_MINUTE = 40


@pytest.fixture(scope="module")
def guarded(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings: dict[str, Any] = {
        "api_keys": f"{OLD}, {NEW}",
        "admin_keys": ADMIN,
        "requests_per_minute": PER_MINUTE,
        "log_level": "debug",
    }
    with LiveServer(tmp_path_factory.mktemp("guarded"), model_store=tiny_store, **settings) as live:
        yield live.wait_until_ready()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/health/startup", "/metrics", "/", "/docs"])
def test_public_paths_need_no_key(guarded: LiveServer, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/identify"),
        ("GET", "/languages"),
        ("GET", "/models"),
        ("POST", "/admin/releases"),
        ("GET", "/nowhere"),
        ("GET", "/healthy"),  # only begins like a public path
        ("GET", "//health"),
        ("GET", "/health/../models"),
        ("GET", "/health%2F..%2Fmodels"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        {"Authorization": "Bearer"},
        {"X-API-Key": OLD[:-1]},
        {"Authorization": f"Basic {OLD}"},
        {"Cookie": f"key={OLD}"},
    ],
)
def test_no_key_no_answer(guarded: LiveServer, method: str, path: str, headers: dict[str, str]) -> None:
    url = httpx.URL(f"http://127.0.0.1:{guarded.port}").copy_with(raw_path=path.encode())
    response = guarded.client.send(guarded.client.build_request(method, url, headers=headers))
    if response.status_code == 404:  # a path under a public one, spelt so that no route has it
        assert path in ("/health/../models", "/health%2F..%2Fmodels")
        return
    check_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_clients_key_is_no_operators_key(guarded: LiveServer) -> None:
    swap = {"model": "lrid_net/1"}
    check_problem(guarded.client.post("/admin/releases", json=swap, headers=bearer(NEW)), 401, "unauthorized")
    check_problem(guarded.identify(json=GOOD, headers=bearer(ADMIN)), 401, "unauthorized")
    assert guarded.client.post("/admin/releases", json=swap, headers=bearer(ADMIN)).status_code == 200


def test_admin_is_closed_where_there_are_no_admin_keys(server: LiveServer) -> None:
    for headers in ({}, {"X-API-Key": ""}, bearer("x")):
        response = server.client.post("/admin/releases", json={"model": "lrid_net/1"}, headers=headers)
        check_problem(response, 401, "unauthorized")


def test_a_key_is_checked_before_the_body(guarded: LiveServer) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(1_000_000)

    received = guarded.metric("lrid_upload_bytes")
    try:
        response = guarded.client.post("/identify", content=endless(), headers={"Content-Type": "multipart/form-data"})
        check_problem(response, 401, "unauthorized")
    except httpx.WriteError:
        pass  # closed while it was still sending
    assert guarded.metric("lrid_upload_bytes") == received == 0


def test_the_rate_limit_is_of_each_key(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, api_keys=f"{OLD},{NEW}", requests_per_minute=5) as live:
        live.wait_until_ready()
        statuses = [live.identify(json=GOOD, headers=bearer(OLD)).status_code for _ in range(7)]
        assert statuses[:5] == [200] * 5
        assert statuses[6] == 429
        refused = live.identify(json=GOOD, headers=bearer(OLD))
        check_problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 12
        assert live.identify(json=GOOD, headers=bearer(NEW)).status_code == 200
        assert live.ready().status_code == 200  # what is public is not limited


def test_less_than_one_a_minute_is_not_never() -> None:
    bucket = access.TokenBucket(0.5)
    assert bucket.take() == 0
    assert 100 < bucket.take() <= 120


def test_keys_are_compared_in_constant_time() -> None:
    """All of them, by digests of one length, with the comparison that is made for it."""
    source = inspect.getsource(access._match)
    assert "hmac.compare_digest" in source
    assert "break" not in source
    assert source.count("return") == 1
    keys = (access.digest("a"), access.digest("b"))
    assert access._match(access.digest("b"), keys) == keys[1]
    assert access._match(access.digest("c"), keys) is None
    assert hmac.compare_digest(access.digest("é"), access.digest("é"))


@pytest.mark.parametrize(("method", "path"), [("GET", "/health/live"), ("GET", "/"), ("POST", "/identify"), ("GET", "/x")])
def test_security_headers(guarded: LiveServer, method: str, path: str) -> None:
    headers = guarded.client.request(method, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_cors_is_off(server: LiveServer) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    plain = server.identify(json=GOOD, headers=origin)
    assert plain.status_code == 200
    preflight = server.client.options(
        "/identify", headers=origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    )
    assert preflight.status_code == 405
    for response in (plain, preflight):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_nothing_of_a_user_and_no_key_is_logged(guarded: LiveServer) -> None:
    """At the most talkative level, with keys: paths, header values, bytes that are no HTTP. `test_no_content_in_the_log` has
    bodies of every kind.
    """
    secret = "Zq7Geheimnis"
    keyed = bearer(NEW)
    guarded.identify(files={"audio": (f"{secret}.wav", clip(0.3))}, data=GOOD | {"album": secret}, headers=keyed)
    guarded.identify(json={secret: secret}, headers=keyed)
    guarded.client.get(f"/{secret}", headers=keyed | {"User-Agent": secret, "Referer": secret, "Cookie": secret})
    guarded.client.get("/models", headers=bearer(secret))
    guarded.client.post("/admin/releases", json={"model": f"lrid_net/{secret.lower()}"}, headers=bearer(ADMIN))
    with connect(guarded) as connection:
        connection.sendall(f"GET /{secret} HTTP/1.1\r\nContent-Length: {secret}\r\n\r\n".encode())
        assert receive_all(connection).startswith(b"HTTP/1.1 400 ")
    guarded.access_line(guarded.client.get("/health/live").headers["x-request-id"])
    text = guarded.text_of_log()
    for word in (secret, OLD, NEW, ADMIN, "La vie en rose", "Piaf"):
        assert word not in text
