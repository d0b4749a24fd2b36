"""Routes POST /identify past the framework's router, which costs more time than reading the metadata of a request.

The route is in the router as well: for the OpenAPI document, for other methods, and under a `root_path`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import LridError
from app.http.problem import on_lrid_error

Endpoint = Callable[[Request], Awaitable[Response]]


class Shortcut:
    """Wraps the application; answers POST `path` or `path/` by `endpoint`, its errors as the application does."""

    def __init__(self, app: ASGIApp, path: str, endpoint: Endpoint) -> None:
        self.app = app
        self._path = path
        self._paths = frozenset({path, f"{path}/"})
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        scope["lrid.route"] = self._path
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except LridError as error:
            response = on_lrid_error(request, error)
        await response(scope, receive, send)
