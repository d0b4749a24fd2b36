"""Keys and rates."""

import hashlib

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.http.access import Access, TokenBucket
from app.http.identify import Front
from app.settings import Settings
from tests.unit.http.asgi import Answer, call


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("in")(scope, receive, send)


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("in")


def app(keys: tuple[str, ...] = (), admin: tuple[str, ...] = (), per_minute: float = 0) -> Front:
    given = tuple(map(SecretStr, keys)), tuple(map(SecretStr, admin))
    own = Settings(api_keys=given[0], admin_keys=given[1], public_paths="/,/health", requests_per_minute=per_minute)
    return Front(inside, endpoint, [Access(own).check])


def ask(door: Front, path: str = "/identify", **headers: str) -> Answer:
    return call(door, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_open_without_keys() -> None:
    assert ask(app()).status == 200


@pytest.mark.parametrize(
    ("public_paths", "status"),
    [("/,/health", 200), (" / , /health ", 200), ("", 401), (",", 401), ("/healthy,/heal", 401), ("/health/ready,", 401)],
)
def test_public_paths(public_paths: str, status: int) -> None:
    """An empty one is none, and does not begin all others."""
    own = Settings(api_keys=(SecretStr("key"),), public_paths=public_paths)
    assert call(Front(inside, endpoint, [Access(own).check]), "/health").status == status
    assert call(Front(inside, endpoint, [Access(own).check]), "/identify").status == 401


@pytest.mark.parametrize(
    ("path", "status"), [("/music/admin/releases", 401), ("/music/health", 200), ("/music/", 200), ("/musical/health", 401)]
)
def test_a_root_path_opens_nothing(path: str, status: int) -> None:
    door = app(keys=("key",), admin=("boss",))
    assert call(door, path, headers={}, root_path="/music").status == status
    assert call(door, "/music/admin/releases", headers={"X-API-Key": "key"}, root_path="/music").status == 401
    assert call(door, "/music/admin/releases", headers={"X-API-Key": "boss"}, root_path="/music").status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x_api_key": "old"}, 200),
        ({"x_api_key": "new"}, 200),
        ({"authorization": "Bearer new"}, 200),
        ({"authorization": "bearer   new "}, 200),
        ({"authorization": "Basic new"}, 401),
        ({"x_api_key": "new "}, 401),
        ({"x_api_key": ""}, 401),
        ({"x_api_key": "NEW"}, 401),
        ({"x_api_key": "n\xe9w"}, 401),
    ],
)
def test_any_of_several_keys(headers: dict[str, str], status: int) -> None:
    answer = ask(app(keys=("old", "new")), **headers)
    assert answer.status == status
    if status == 401:
        assert answer.json()["code"] == "unauthorized"
        assert answer.headers["WWW-Authenticate".lower()] == "Bearer"


def test_each_key_has_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("app.http.access.time.monotonic", lambda: now)
    door = app(keys=("one", "other"), per_minute=2)
    assert [ask(door, x_api_key="one").status for _ in range(3)] == [200, 200, 429]
    refused = ask(door, x_api_key="one")
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("rate_limited", "30")
    assert ask(door, x_api_key="other").status == 200
    assert ask(door, "/health").status == 200
    now += 30
    assert [ask(door, x_api_key="one").status for _ in range(2)] == [200, 429]


def test_a_bucket_never_holds_more_than_a_minute_s_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("app.http.access.time.monotonic", lambda: now)
    bucket = TokenBucket(3)
    now += 1e6
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, pytest.approx(20)]


def hashed(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def test_keys_may_be_given_as_their_hashes() -> None:
    door = app(keys=(hashed("old"), "plain"), admin=(hashed("boss").upper().replace("SHA", "sha"),))
    assert ask(door, x_api_key="old").status == ask(door, x_api_key="plain").status == 200
    assert ask(door, x_api_key=hashed("old")).status == 401  # who reads the settings cannot use what stands there
    assert ask(door, x_api_key=hashed("old").removeprefix("sha256:")).status == 401
    assert ask(door, "/admin/releases", x_api_key="boss").status == 200


def test_rotation_locks_nobody_out() -> None:
    """Three starts: the old key, both, the new one."""
    opens = [
        [ask(app(keys), x_api_key=key).status == 200 for key in ("old", "new")]
        for keys in ((hashed("old"),), (hashed("old"), hashed("new")), (hashed("new"),))
    ]
    assert opens == [[True, False], [True, True], [False, True]]
