"""Calls as data, and what comes back, for both clients."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError
from pydantic_core import from_json

from app.http.options import Options
from app.http.schemas import OTHER_ANSWERS, IdentifyResponse, Problem


class ClientError(Exception):
    """Base of all."""


class RequestRefused(ClientError):
    """The server answered with a problem."""

    def __init__(self, problem: Problem, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{problem.code}: {problem.detail.rstrip('.')}. {problem.remedy}")
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds

    @property
    def code(self) -> str:
        """The stable code, as listed in app/http/README.md."""
        return self.problem.code


class NoLanguages(ClientError):
    """The release that is served answers something else; `body` is the answer, as one of `schemas.OTHER_ANSWERS`."""

    def __init__(self, body: dict[str, Any]) -> None:
        found = next(name for name in OTHER_ANSWERS if name in body)
        release = "{family}/{release}".format_map(body.get("model", {"family": "?", "release": "?"}))
        super().__init__(f"the server's release {release} answers `{found}`, no languages: ask one that does")
        self.body = body


class ServerUnreachable(ClientError):
    """No answer: the connection failed, broke, or the deadline passed."""


AGAIN = frozenset({429, 502, 503})  # full, restarting or draining; 502: a proxy found no server behind it
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0

Outcome = httpx.Response | httpx.TransportError


def wait_seconds(outcome: Outcome, attempt: int, deadline: float) -> float | None:
    """Seconds until the call is made again, which changes nothing; None: never. `attempt` counts from 0."""
    if isinstance(outcome, httpx.UnsupportedProtocol) or (
        isinstance(outcome, httpx.Response) and outcome.status_code not in AGAIN
    ):
        return None
    asked = retry_after_seconds(outcome) if isinstance(outcome, httpx.Response) else None
    backoff = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)
    wait = backoff if asked is None else asked
    return wait if wait < deadline - time.monotonic() else None


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Only seconds: this service sends no dates."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return None


Answer = TypeVar("Answer")
MEDIA_TYPE = "application/x-ndjson"
Audio = bytes | str | Path | None  # bytes of a file, or its path
Call = dict[str, Any]  # one HTTP request, sent as often as needed: httpx's arguments


def request_of(client: httpx.Client | httpx.AsyncClient, call: Call, deadline: float) -> httpx.Request:
    """`deadline`: by time.monotonic(). The server gets what is left of it, and a second more to answer 504."""
    remaining = max(deadline - time.monotonic(), 0.001)
    request = client.build_request(**call, timeout=remaining + 1.0)
    request.headers["X-Request-Timeout"] = f"{remaining:.3f}"
    return request


def query_of(options: Options) -> dict[str, str]:
    """Options that differ from the defaults, as a query string has them."""
    given = options.model_dump(exclude_defaults=True)
    return {name: ",".join(value) if isinstance(value, tuple) else str(value).lower() for name, value in given.items()}


def identify_call(audio: bytes | None, names: Mapping[str, object], options: Options) -> Call:
    """`names`: title, artist, album and lyrics; None is not given."""
    given = {name: text for name, text in names.items() if text is not None}
    body: Call = {"json": given} if audio is None else {"files": {"audio": ("audio", audio)}, "data": given}
    return {"method": "POST", "url": "/identify", "params": query_of(options)} | body


def batch_call(lines: Iterable[bytes], options: Options) -> Call:
    """`lines`: NDJSON."""
    sent: Call = {"content": b"".join(lines), "headers": {"Content-Type": MEDIA_TYPE}}
    return {"method": "POST", "url": "/identify/batch", "params": query_of(options)} | sent


def read_audio(audio: Audio) -> bytes | None:
    """Raises OSError."""
    return Path(audio).read_bytes() if isinstance(audio, str | Path) else audio


def parsed(response: httpx.Response, form: Callable[[Any], Answer]) -> Answer:
    """`form`: makes an answer of its JSON. Raises RequestRefused, what `form` does, and ClientError for another form."""
    if not response.is_success:
        raise refusal(response)
    try:
        return form(from_json(response.content))
    except ValueError:  # no JSON, or of another form
        raise not_ours(response) from None


def answer_of(body: Any) -> IdentifyResponse:
    """Raises NoLanguages, or ValueError for a body of another form than this service gives."""
    if isinstance(body, dict) and "language" not in body and body.keys() & OTHER_ANSWERS.keys():
        raise NoLanguages(body)
    return IdentifyResponse.model_validate(body)


def refusal(response: httpx.Response) -> ClientError:
    """The problem that the server names; for a proxy's page, its status."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        kind = ServerUnreachable if response.status_code in AGAIN else ClientError  # a proxy says that it found no server
        return kind(f"{response.url} answered with status {response.status_code}, not by LRID Serve itself")
    return RequestRefused(problem, retry_after_seconds(response))


def not_ours(response: httpx.Response) -> ClientError:
    return ClientError(f"{response.url} does not answer as LRID Serve does; is the address right?")
