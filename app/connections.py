"""uvicorn's HTTP protocol with the bounds it leaves to a proxy: on header time, header size, and unread bodies.

Deadlines of requests are the application's; a connection that never becomes a request is bounded here.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import HeadersTooLarge, LridError
from app.http.problem import problem_response

HEADER_SECONDS = 10.0  # from the first byte (or the connection) to the end of a request's headers
MAX_HEADER_BYTES = 65_536
LINGER_SECONDS = 10.0  # how long the rest of a refused body is read and thrown away, so that the client sees the answer

class BoundedProtocol(HttpToolsProtocol):
    """Closes what dawdles. Each timer is one `call_later`, cancelled in time by every ordinary request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_headers = True  # a new connection owes headers
        self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._close_after(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_headers:
            self._header_bytes = 0
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_refusal(HeadersTooLarge(f"more than {MAX_HEADER_BYTES} bytes came")))
            self.transport.close()

    def on_message_begin(self) -> None:
        self._in_headers = True
        self._close_after(HEADER_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._in_body = True
        self._cancel_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._cancel_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._in_body:
            self._close_after(LINGER_SECONDS)
        super().on_response_complete()

    def _close_after(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _refusal(error: LridError) -> bytes:
    """A whole response, for where there is no request yet."""
    response = problem_response(error, request_id="")
    head = [f"HTTP/1.1 {error.status} {error.title}".encode(), b"connection: close"]
    head += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body)


def raise_file_limit() -> None:
    """As many open sockets as the system allows this process: the default soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
