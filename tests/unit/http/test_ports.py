"""Paths by port."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.http.middleware import ON_ADMIN_PORT, SplitPorts
from tests.unit.http.asgi import call


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("in")(scope, receive, send)


async def on_admin_port(scope: Scope, receive: Receive, send: Send) -> None:
    scope[ON_ADMIN_PORT] = True
    await SplitPorts(inside)(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "public", "admin"),
    [
        ("/metrics", 404, 200),
        ("/metrics/", 404, 200),
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
    assert call(SplitPorts(inside), path).status == public
    assert call(on_admin_port, path).status == admin


def test_the_refusal_is_a_problem() -> None:
    assert call(SplitPorts(inside), "/metrics").json()["code"] == "not_found"
