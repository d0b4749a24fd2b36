"""uvicorn's HTTP protocol with bounds on header time, header size, and unread bodies.

The application bounds requests; this module bounds connections that never become a request.
"""

import asyncio
import re
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import HeadersTooLarge, LridError, MalformedHttp
from app.http.problem import problem_response

HEADER_SECONDS = 10.0  # from the first byte (or the connection) to the end of a request's headers
MAX_HEADER_BYTES = 65_536
LINGER_SECONDS = 10.0  # for which the rest of a rejected body is read and discarded, so that the client sees the answer
UNREAD_SECONDS = 10.0  # for which an answer waits for a client that does not read it
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class BoundedProtocol(HttpToolsProtocol):
    """Closes slow connections. Each timer is one `call_later`, which an ordinary request cancels in time.

    It uses more of uvicorn than is documented, and the private `_start_asgi_task`: the minor version of uvicorn is bounded
    for this, and tests/unit/server/test_connections.py checks that the names exist.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None  # closes
        self._abort_timer: asyncio.TimerHandle | None = None  # aborts where closing would wait for the client
        self._idle_bytes = 0  # received since the last byte of a body or the last end of headers or of a message
        self._rejected = False
        self._malformed = ""  # what the parser said of bytes behind requests in progress
        self._in_headers = True  # a new connection owes headers
        self._in_body = False
        self._answering: RequestResponseCycle | None = None  # the pipelined request that runs; `cycle` is the last one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._close_after(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        self._cancel_abort()
        super().connection_lost(exc)
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True  # uvicorn notifies only the last of pipelined requests
            self._answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._idle_bytes += len(data)
        if not self._malformed:
            super().data_received(data if self._in_body else _without_upgrade(data))
        if self._in_headers and self._timer is None:  # most requests come whole, and need no timer
            self._close_after(HEADER_SECONDS)
        if self._idle_bytes > MAX_HEADER_BYTES:  # headers, trailers or chunk extensions without end
            self._reject(HeadersTooLarge(f"more than {MAX_HEADER_BYTES} bytes came"))
        if self._is_idle and self._timer is None and self.timeout_keep_alive_task is None:
            self._close_after(self.timeout_keep_alive)  # line ends between requests, the end of a rejected body

    def on_message_begin(self) -> None:
        self._in_headers = True
        self._cancel_timer()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # fields behind a body are no headers (RFC 9110 §6.5.1): a proxy has not seen them as such
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        n_bytes = len(self.url) + sum([len(name) + len(value) for name, value in self.headers])
        if n_bytes > MAX_HEADER_BYTES:
            self._reject(HeadersTooLarge(f"they have {n_bytes} bytes"))
        if self._rejected:
            return
        self._in_headers = False
        self._in_body = True
        self._idle_bytes = 0
        self._cancel_timer()
        super().on_headers_complete()
        self.cycle.transport = HeadWithBody(self.cycle)  # type: ignore[assignment]
        if len(self.pipeline) == 1:  # uvicorn would read nothing, not even a disconnect, behind an unanswered request
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._idle_bytes = 0
        self._cancel_timer()
        if not self._rejected:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._in_body:
            self._close_after(LINGER_SECONDS)
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()
        elif self._malformed:
            self.send_400_response(self._malformed)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._cancel_abort()

    def send_400_response(self, msg: str) -> None:
        """After the answers of requests in progress; a client would take it for one of them."""
        if self._is_answering and not self._in_body:
            self._malformed = msg
            return
        if not self._in_body or (self._answering is self.cycle and not self.cycle.response_started):
            self.transport.write(_rejection(MalformedHttp(msg)))
        self._close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_idle(self) -> bool:
        return not self._in_headers and not self._in_body and not self._is_answering and not self.transport.is_closing()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _reject(self, error: LridError) -> None:
        """Close the connection. Send the error only if no request is in progress; it would pass for its answer."""
        self._rejected = True
        if self.transport.is_closing():
            return
        if self._in_headers and not self._is_answering:
            self.transport.write(_rejection(error))
        self._close()

    def _close_after(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._abort_later()

    def _abort_later(self) -> None:
        """Abort in a while: a closed connection stays open until the client has read what is left."""
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def _cancel_abort(self) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HeadWithBody:
    """The transport of one answer: a head whose body is about to follow is sent with it.

    uvicorn writes them apart: two system calls, two packets, and a client that wakes twice.
    """

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head: bytes | None = None  # b"" once it was sent

    def write(self, data: bytes) -> None:
        """`data`: a head, a part of a body, or `100 Continue`."""
        cycle = self._cycle
        if self._head is None and cycle.response_started:
            self._head = b""
            if cycle.expected_content_length and cycle.scope["method"] != "HEAD":  # an endless answer begins at once
                self._head = data
                return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        if self._head:  # its body failed
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


def _without_upgrade(data: bytes) -> bytes:
    """Rename the Upgrade header. A server may ignore it (RFC 9110 §7.8), as browsers and Java clients expect, but the parser
    would take everything after the headers, including the body, for the other protocol.
    """
    found = _UPGRADE.search(data, 0, data.find(b"\r\n\r\n") if b"\r\n\r\n" in data else len(data))
    return data if found is None else data[: found.start() + 2] + b"X-" + data[found.start() + 2 :]


def _rejection(error: LridError) -> bytes:
    """A complete response, for a connection without a request."""
    response = problem_response(error, request_id="")
    head = [f"HTTP/1.1 {error.status} {error.title}".encode(), b"connection: close"]
    head += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body)


def raise_file_limit() -> None:
    """Allow as many open sockets as the system permits: the default soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
