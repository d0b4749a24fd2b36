"""Assigns paths to ports, where the operator has set an admin port. Pure ASGI, inside RequestContext."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import NotFound
from app.http.problem import on_lrid_error

ON_ADMIN_PORT = "lrid.admin_port"  # set in the scope of requests that came in through it
_ADMIN_PREFIXES = ("/admin", "/metrics")
_BOTH_PREFIXES = ("/health",)


class SplitPorts:
    """Wraps the application; answers 404 where a path belongs to the other port."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if _is_under(path, _BOTH_PREFIXES) or _is_under(path, _ADMIN_PREFIXES) == bool(scope.get(ON_ADMIN_PORT)):
            await self.app(scope, receive, send)
        else:
            await on_lrid_error(Request(scope), NotFound("no such path on this port"))(scope, receive, send)


def _is_under(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)
