"""The outermost layer: whatever goes wrong inside, the client gets a problem and the log a line."""

import asyncio
import logging

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.middleware import RequestContext
from tests.unit.http.asgi import call

SECRET = "the user's title"


def wrap(app: ASGIApp, *, leaving: bool = False) -> RequestContext:
    return RequestContext(app, is_leaving=lambda: leaving)


async def good(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("fine")(scope, receive, send)


async def defective(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError(SECRET)


async def late_defect(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError(SECRET)


async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


def test_headers_and_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lrid.access")
    answer = call(wrap(good), headers={"X-Request-Id": "mine"})
    assert (answer.status, answer.body) == (200, b"fine")
    assert answer.headers["x-request-id"] == "mine"
    assert "connection" not in answer.headers
    (record,) = caplog.records
    assert vars(record)["fields"]["request_id"] == "mine"
    assert (vars(record)["fields"]["status"], vars(record)["fields"]["code"]) == (200, None)


def test_kept_alive_connections_are_closed_while_leaving() -> None:
    assert call(wrap(good, leaving=True)).headers["connection"] == "close"


def test_a_defect_is_a_problem_that_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lrid.access")
    answer = call(wrap(defective), headers={"X-Request-Id": "mine"})
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["request_id"]) == ("internal_error", "mine")
    assert SECRET not in answer.body.decode()
    defect, line = caplog.records
    assert vars(defect)["fields"]["request_id"] == "mine"
    assert (vars(line)["fields"]["status"], vars(line)["fields"]["code"]) == (500, "internal_error")


def test_a_defect_after_the_answer_began_does_not_begin_another() -> None:
    assert call(wrap(late_defect)).status == 200


def test_a_request_that_the_server_gives_up_is_told_so() -> None:
    answer = call(wrap(cancelled))
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "draining", "1")


def test_two_ids_are_never_the_same() -> None:
    assert len({call(wrap(good)).headers["x-request-id"] for _ in range(100)}) == 100
