"""Calls as data, and what comes back, for both clients."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.client.problems import ClientError, NoLanguages, RequestRefused, ServerUnreachable
from app.client.retries import AGAIN, retry_after_seconds
from app.http.options import Options
from app.http.schemas import OTHER_ANSWERS, IdentifyResponse, Problem

Answer = TypeVar("Answer", bound=BaseModel)
MEDIA_TYPE = "application/x-ndjson"
Audio = bytes | str | Path | None  # bytes of a file, or its path


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, sent as often as needed."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)  # httpx's arguments: json, files, data, content, headers

    def request(self, client: httpx.Client | httpx.AsyncClient, deadline: float) -> httpx.Request:
        """`deadline`: by time.monotonic(). The server gets what is left of it, and a second more to answer 504."""
        body, remaining = dict(self.body), max(deadline - time.monotonic(), 0.001)
        headers = body.pop("headers", {}) | {"X-Request-Timeout": f"{remaining:.3f}"}
        timeout = remaining + 1.0
        return client.build_request(self.method, self.path, params=self.query, headers=headers, timeout=timeout, **body)


def query_of(options: Options) -> dict[str, str]:
    """Options that differ from the defaults, as a query string has them."""
    given = options.model_dump(exclude_defaults=True)
    return {name: ",".join(value) if isinstance(value, tuple) else str(value).lower() for name, value in given.items()}


def identify_call(audio: bytes | None, names: Mapping[str, object], options: Options) -> Call:
    """`names`: title, artist, album and lyrics; None is not given."""
    given = {name: text for name, text in names.items() if text is not None}
    body = {"json": given} if audio is None else {"files": {"audio": ("audio", audio)}, "data": given}
    return Call("POST", "/identify", query_of(options), body)


def batch_call(lines: bytes, options: Options) -> Call:
    """`lines`: NDJSON."""
    return Call("POST", "/identify/batch", query_of(options), {"content": lines, "headers": {"Content-Type": MEDIA_TYPE}})


def read_audio(audio: Audio) -> bytes | None:
    """Raises OSError."""
    return Path(audio).read_bytes() if isinstance(audio, str | Path) else audio


def parsed(response: httpx.Response, kind: type[Answer]) -> Answer:
    """Raises RequestRefused, and ClientError for an answer that is none of this service's."""
    if not response.is_success:
        raise refusal(response)
    try:
        return kind.model_validate_json(response.content)
    except ValidationError:
        raise not_ours(response) from None


def identified(response: httpx.Response) -> IdentifyResponse:
    """Raises as `parsed`, and NoLanguages."""
    if not response.is_success:
        raise refusal(response)
    try:
        return answer_of(from_json(response.content))
    except ValueError:  # no JSON, or of another form
        raise not_ours(response) from None


def answer_of(body: Any) -> IdentifyResponse:
    """Raises NoLanguages, or ValueError for a body that is none of this service's."""
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
