"""POST /identify goes past the framework's router, and nobody can tell."""

import logging

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.errors import NothingGiven
from app.http.identify import Front
from app.http.middleware import RequestContext
from app.main import create_app
from app.settings import Settings
from tests.unit.http.asgi import call


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("from the router")(scope, receive, send)


async def endpoint(request: Request) -> Response:
    return PlainTextResponse(f"from the endpoint, {len(await request.body())} bytes")


async def refusing(request: Request) -> Response:
    raise NothingGiven("nothing came")


@pytest.mark.parametrize(
    ("method", "path", "by"),
    [
        ("POST", "/identify", b"from the endpoint, 0 bytes"),
        ("GET", "/identify", b"from the router"),
        ("POST", "/identify/", b"from the router"),
        ("POST", "/", b"from the router"),
    ],
)
def test_who_answers(method: str, path: str, by: bytes) -> None:
    assert call(Front(router, endpoint), path, method).body == by


def test_an_error_is_a_problem_and_the_log_knows_the_route(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lrid.access")
    app = RequestContext(Front(router, refusing), is_leaving=lambda: False)
    answer = call(app, "/identify", "POST")
    assert (answer.status, answer.json()["code"]) == (422, "nothing_given")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    (record,) = caplog.records
    assert (vars(record)["fields"]["route"], vars(record)["fields"]["code"]) == ("/identify", "nothing_given")


@pytest.mark.parametrize("path", ["/identify", "/identify/"])
@pytest.mark.parametrize("root_path", ["", "/music"])
def test_both_ways_give_the_same_answer(root_path: str, path: str) -> None:
    """Under a root_path the router answers. Nothing is loaded here, so both say so."""
    app = create_app(Settings())
    app.root_path = root_path
    answer = call(app, f"{root_path}{path}", "POST", {"X-Request-Id": "mine"})
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_ready", "3")
    assert (answer.headers["x-request-id"], answer.headers["x-content-type-options"]) == ("mine", "nosniff")


def test_under_the_root_path_of_a_server() -> None:
    """As Ray serves an application under a prefix: with the prefix in the path."""
    app = create_app(Settings())
    assert call(app, "/music/", root_path="/music").headers["content-type"].startswith("text/html")
    assert call(app, "/music/health/", "HEAD", root_path="/music").status == 503
    assert call(app, "/music/identify", "POST", root_path="/music").json()["code"] == "not_ready"
    assert set(call(app, "/music/v2/models/lrid", root_path="/music").json()) == {"error"}
    assert call(app, "/music/admin/releases", "POST", root_path="/music").status == 401
