"""uvicorn still has the names that the subclasses of app.server rely on, some of which are private."""

import asyncio
import inspect
import re
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.server.connections import BoundedProtocol, HeadWithBody
from app.server.run import Server

# What BoundedProtocol uses of uvicorn beyond its documentation.
UVICORN_METHODS = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_message_begin",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
    "timeout_keep_alive_handler",
    "pause_writing",
    "send_400_response",
    "resume_writing",
    "_start_asgi_task",
)
UVICORN_STATE = (
    "cycle",
    "flow",
    "headers",
    "loop",
    "pipeline",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
)
UVICORN_CYCLE = (
    "disconnected",
    "expected_content_length",
    "message_event",
    "response_complete",
    "response_started",
    "scope",
    "transport",
)
PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())


def overridden(ours: type, theirs: type) -> set[str]:
    return {name for name, member in vars(ours).items() if inspect.isfunction(member) and name in dir(theirs)}


def test_every_overridden_method_exists() -> None:
    assert overridden(BoundedProtocol, HttpToolsProtocol) - {"__init__"} == set(UVICORN_METHODS)
    assert overridden(Server, uvicorn.Server) - {"__init__"} == {"handle_exit", "on_tick", "startup"}


def test_every_attribute_exists() -> None:
    async def protocol() -> HttpToolsProtocol:
        return HttpToolsProtocol(uvicorn.Config(Starlette()), ServerState(), {})

    assert [name for name in UVICORN_STATE if not hasattr(asyncio.run(protocol()), name)] == []
    assert "self.url = " in inspect.getsource(HttpToolsProtocol.on_message_begin)
    source = inspect.getsource(RequestResponseCycle.__init__)
    assert [name for name in UVICORN_CYCLE if f"self.{name} = " not in source] == []


def test_the_minor_version_is_bounded() -> None:
    (requirement,) = [each for each in PROJECT["project"]["dependencies"] if each.startswith("uvicorn")]
    major, minor, *_ = version("uvicorn").split(".")
    assert requirement == f"uvicorn[standard]>={major}.{minor},<{major}.{int(minor) + 1}"


class Recorder:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def answer(method: str = "POST", length: int = 0, *, continues: bool = False) -> tuple[HeadWithBody, Recorder]:
    """The transport of an answer whose head was just written."""
    recorder = Recorder()
    cycle = SimpleNamespace(response_started=False, expected_content_length=0, scope={"method": method}, transport=recorder)
    transport = HeadWithBody(cast(RequestResponseCycle, cycle))
    if continues:
        transport.write(b"100 ")
    cycle.response_started, cycle.expected_content_length = True, length
    transport.write(b"head ")
    return transport, recorder


def test_a_head_leaves_with_the_beginning_of_its_body() -> None:
    transport, recorder = answer(length=9, continues=True)
    assert recorder.written == [b"100 "]
    for part in (b"body", b" more"):
        transport.write(part)
    assert recorder.written == [b"100 ", b"head body", b" more"]


@pytest.mark.parametrize(("method", "length"), [("HEAD", 9), ("POST", 0)], ids=["no body", "an endless body"])
def test_a_head_whose_body_is_not_about_to_follow_leaves_at_once(method: str, length: int) -> None:
    assert answer(method, length)[1].written == [b"head "]


def test_a_head_whose_body_failed_leaves_before_the_connection_ends() -> None:
    transport, recorder = answer(length=9)
    transport.close()
    assert (b"".join(recorder.written), recorder.closed) == (b"head ", True)


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers once the body came, and a while later; /early answers first."""
    if scope["path"] != "/early":
        await Request(scope, receive).body()
        await asyncio.sleep(0.2)
    await PlainTextResponse("answer")(scope, receive, send)


async def exchange(parts: Sequence[bytes], app: ASGIApp = slow) -> bytes:
    """What a server answers to bytes that come one after the other, until it closes the connection."""
    config = uvicorn.Config(app, lifespan="off")
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    async with await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        received = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    return received


GET, GARBAGE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"no HTTP\r\n\r\n"
CHUNKED = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


@pytest.mark.parametrize(
    ("parts", "answers"),
    [
        ([GARBAGE], [b"400"]),
        ([GET, GARBAGE, GARBAGE], [b"200", b"400"]),
        ([GET + GARBAGE], [b"200", b"400"]),
        ([GET, GET, GARBAGE], [b"200", b"200", b"400"]),
        ([CHUNKED % b"/", GARBAGE], [b"400"]),
        ([CHUNKED % b"/early", GARBAGE], [b"200"]),
        ([GET, CHUNKED % b"/", GARBAGE], []),
    ],
    ids=["alone", "behind a request", "with a request", "behind two", "a body", "a body answered before", "a body behind"],
)
def test_what_is_no_http_is_never_the_answer_of_another_request(parts: list[bytes], answers: list[bytes]) -> None:
    assert re.findall(rb"HTTP/1.1 (\d+)", asyncio.run(exchange(parts))) == answers


async def keys(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers the keys that came, once the body did."""
    request = Request(scope, receive)
    await request.body()
    await PlainTextResponse(f"keys: {request.headers.getlist('x-api-key')}")(scope, receive, send)


def test_fields_behind_a_body_are_no_headers() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = asyncio.run(exchange([head + b"1\r\na\r\n0\r\nX-API-Key: b\r\n\r\n"], keys))
    assert received.endswith(b"keys: ['a']")
