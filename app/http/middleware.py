"""Pure-ASGI middleware: request id, security headers, one access-log line, answers to unexpected errors; HEAD.

Pure ASGI because Starlette's BaseHTTPMiddleware hides the client's disconnect from the application.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Draining, InternalError, LridError
from app.http.problem import problem_response
from app.http.traces import STAGES, OpenTelemetry, route_of

log = logging.getLogger("lrid.access")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, level 1
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class RequestContext:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, is_leaving: Callable[[], bool], traces: OpenTelemetry | None = None) -> None:
        """While `is_leaving()`, connections are closed after their answer, so that clients connect elsewhere."""
        self._traces = traces
        self.app = app
        self._is_leaving = is_leaving
        self._random = random.Random()  # seeded by the system; a system call per id would cost a third of this middleware

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["lrid.request_id"] = self._begin(scope)
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", request_id.encode()), *_SECURITY_HEADERS]
                if self._is_leaving():
                    extra.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except (Exception, asyncio.CancelledError) as error:
            problem = _problem_of(error, request_id)
            scope["lrid.code"] = problem.code
            if not status:
                await problem_response(problem, request_id)(scope, receive, send_with_headers)
        finally:
            _log_access(scope, status, time.perf_counter() - started)
            if self._traces is not None:
                self._traces.record(scope, status, started)

    def _begin(self, scope: Scope) -> str:
        """The request's id; notes its trace in the scope."""
        headers = dict(scope["headers"])
        if match := _TRACEPARENT.fullmatch(headers.get(b"traceparent", b"")):
            scope["lrid.trace_id"] = match[1].decode()
        if self._traces is not None:
            scope[STAGES] = []
        given: bytes = headers.get(b"x-request-id", b"")
        return given.decode() if _REQUEST_ID.fullmatch(given) else f"{self._random.getrandbits(128):032x}"


def _problem_of(error: BaseException, request_id: str) -> LridError:
    """The server stops before the request is answered (a disconnect cancels only the work), or there is a defect."""
    if isinstance(error, asyncio.CancelledError):
        return Draining("the server stopped before this request was answered", retry_after_seconds=1.0)
    log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": request_id}})
    return InternalError(f"request id {request_id}")


def _log_access(scope: Scope, status: int, seconds: float) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    fields = {
        "request_id": scope["lrid.request_id"],
        "method": scope["method"],
        "route": route_of(scope),
        "status": status,
        "code": scope.get("lrid.code"),
        "ms": round(seconds * 1000, 2),
    }
    if trace_id := scope.get("lrid.trace_id"):
        fields["trace_id"] = trace_id
    # info() would look for its caller first, which no line shows
    log.handle(log.makeRecord(log.name, logging.INFO, "", 0, "request", (), None, extra={"fields": fields}))


class HeadAsGet:
    """HEAD wherever GET is answered (RFC 9110 §9.3.2), and no slash behind a path: clients lose bodies on redirects."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removesuffix("/")
        scope["path"] = path if path != scope.get("root_path", "") else f"{path}/"
        if scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send)  # uvicorn leaves out the content
        finally:
            scope.update(as_get | {"method": "HEAD"})  # with what the access log tells
