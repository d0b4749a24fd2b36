"""Paths by port."""

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.http.access import ON_ADMIN_PORT, check_port
from app.http.identify import Front
from tests.unit.http.asgi import call


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("in")(scope, receive, send)


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("in")


on_public_port = Front(inside, endpoint, [check_port])


async def on_admin_port(scope: Scope, receive: Receive, send: Send) -> None:
    scope[ON_ADMIN_PORT] = True
    await on_public_port(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "public", "admin"),
    [
        ("/metrics", 404, 200),
        ("/metrics/", 404, 200),
        ("/metrics\n", 404, 200),  # the pattern of a route matches it
        ("/admin/releases", 404, 200),
        ("/health", 200, 200),
        ("/health/ready", 200, 200),
        ("/identify", 200, 404),
        ("/", 200, 404),
        ("/administration", 200, 404),
        ("/healthy", 200, 404),
    ],
)
def test_each_path_has_its_port(path: str, public: int, admin: int) -> None:
    assert call(on_public_port, path).status == public
    assert call(on_admin_port, path).status == admin


def test_the_refusal_is_a_problem() -> None:
    assert call(on_public_port, "/metrics").json()["code"] == "not_found"
