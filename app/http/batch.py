"""POST /identify/batch: many names, one JSON object a line, answered in their order while they come.

Nothing is collected: lines are read from the socket only as answers are written to it, a group at a time, so memory does not
grow with the number of lines. A line fails alone. An error that ends the whole stream is its last line, with `"id": null`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.errors import (
    ClientGone,
    DeadlineExceeded,
    InternalError,
    InvalidOption,
    LridError,
    MetadataTooLong,
    NotReady,
    UnsupportedContentType,
)
from app.families.tasks import Json
from app.http import openapi
from app.http.answering import Answering
from app.http.body import BodyReader, json_object, media_type, query_options
from app.http.encoding import body_chunks
from app.http.options import IdentifyRequest
from app.http.problem import problem_of
from app.serving.identifier import Identifier

log = logging.getLogger("lrid.batch")

PATH = "/identify/batch"
MEDIA_TYPE = "application/x-ndjson"
ACCEPTED = frozenset({MEDIA_TYPE, "application/ndjson", "application/jsonl", "application/jsonlines"})
GROUP_LINES = 64  # worked on together; other requests get their turn between the stages of a group
MAX_ID_CHARACTERS = 256


class Lines:
    """Splits at line feeds, with a bound on each line; what is left at the end of the stream is the last one."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = b""  # the beginning of a line whose end has not come
        self._overlong = False  # that line is too long already, and its bytes are thrown away

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The lines that end in this chunk; None for one that is too long."""
        *whole, self._held = (self._held + chunk).split(b"\n")
        lines: list[bytes | None] = [line if len(line) <= self._max_bytes else None for line in whole]
        if self._overlong and lines:
            lines[0] = None
            self._overlong = False
        if self._overlong or len(self._held) > self._max_bytes:
            self._overlong = True
            self._held = b""
        return lines

    def rest(self) -> list[bytes | None]:
        """The last line, if the stream did not end with a line feed."""
        if self._overlong:
            return [None]
        return [self._held] if self._held else []


class _Streamed(StreamingResponse):
    """Leaves `receive` to the reader of the request: Starlette's would swallow the lines while it looks for a disconnect."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


class BatchEndpoint:
    """Lines in, lines out."""

    def __init__(self, answering: Answering, body: BodyReader) -> None:
        self._answering = answering
        self._body = body

    async def __call__(self, request: Request) -> Response:
        """Raises what is wrong with the request as a whole; once the first line was read, that stands in the last line."""
        with self._answering.counted("none", failures_only=True):
            if (kind := media_type(request)) not in ACCEPTED:
                raise UnsupportedContentType(f"got {kind[:60]!r}; a batch is {MEDIA_TYPE}")
            query = query_options(request)
            chunks = body_chunks(request)
            self._answering.deadline(request)
            with self._answering.service.lease():
                return _Streamed(self._stream(request, chunks, query), media_type=MEDIA_TYPE)

    async def _stream(
        self, request: Request, chunks: AsyncIterator[bytes], query: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        in_flight = self._answering.metrics.in_flight
        in_flight.inc()
        try:
            async for lines in self._groups(request, chunks):
                answers = await self._answers(request, lines, query)
                yield b"".join([to_json(answer) + b"\n" for answer in answers])
        except LridError as error:
            request.scope["lrid.code"] = error.code
            yield to_json(_failed(None, error, request)) + b"\n"
        finally:
            in_flight.dec()

    async def _groups(self, request: Request, chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes | None]]:
        """Lines that have come, some at a time; blank ones are left out."""
        lines = Lines(self._body.max_json_bytes)
        while chunk := await self._next(request, chunks):
            for some in _in_groups(lines.feed(chunk)):
                yield some
        for some in _in_groups(lines.rest()):
            yield some

    async def _next(self, request: Request, chunks: AsyncIterator[bytes]) -> bytes:
        """The next bytes that are any; none at the end. Raises ClientGone, DeadlineExceeded, MalformedEncoding."""
        try:
            async with asyncio.timeout_at(self._answering.deadline(request)):
                async for chunk in chunks:
                    if chunk:
                        return chunk
        except ClientDisconnect:
            raise ClientGone("the batch was cut off") from None
        except TimeoutError:
            raise DeadlineExceeded("no further line came in time") from None
        return b""

    async def _answers(self, request: Request, lines: Sequence[bytes | None], query: Mapping[str, str]) -> list[Json]:
        """The answer or the problem of each line. Raises Draining: the lines behind will not be answered either."""
        deadline = self._answering.deadline(request)
        try:
            with self._answering.service.lease() as identifier:
                return await asyncio.gather(*[self._line(request, line, query, identifier, deadline) for line in lines])
        except NotReady as error:
            return [_failed(_id_of(line), error, request) for line in lines]

    async def _line(
        self, request: Request, line: bytes | None, query: Mapping[str, str], identifier: Identifier, deadline: float
    ) -> Json:
        name: str | int | None = None
        asked: IdentifyRequest | None = None
        try:
            if line is None:
                raise MetadataTooLong(f"a line may have {self._body.max_json_bytes} bytes{self._body.limits_in_words}")
            fields = json_object(line)
            name = _taken_id(fields)
            asked = self._body.request_of(fields, query)
            return {"id": name} | await self._answering.answer(identifier, asked, deadline, request)
        except LridError as error:
            if asked is None:
                self._answering.metrics.count_request("none", error.code)
            return _failed(name, error, request)
        except Exception:
            log.exception("unforeseen error", extra={"fields": {"request_id": request.scope.get("lrid.request_id")}})
            return _failed(name, InternalError("the log says why"), request)


def _in_groups(lines: list[bytes | None]) -> list[list[bytes | None]]:
    given = [line for line in lines if line is None or (line and not line.isspace())]
    return [given[start : start + GROUP_LINES] for start in range(0, len(given), GROUP_LINES)]


def _id_of(line: bytes | None) -> str | int | None:
    """The name of a line that is not answered; None where the line has none or cannot be read."""
    try:
        return _taken_id(json_object(line or b""))
    except LridError:
        return None


def _taken_id(fields: Json) -> str | int | None:
    """The client's name for the line, taken out of its fields."""
    name = fields.pop("id", None)
    if isinstance(name, bool) or not isinstance(name, str | int | None):
        raise InvalidOption("id: expected a string or an integer")
    if isinstance(name, str) and len(name) > MAX_ID_CHARACTERS:
        raise InvalidOption(f"id: at most {MAX_ID_CHARACTERS} characters, got {len(name)}")
    return name


def _failed(name: str | int | None, error: LridError, request: Request) -> Json:
    problem = {"id": name} | problem_of(error, request.scope.get("lrid.request_id", "")).model_dump()
    if error.retry_after_seconds is not None:
        problem["retry_after_seconds"] = round(error.retry_after_seconds, 1)
    return problem


def build_batch_router(answering: Answering, body: BodyReader) -> APIRouter:
    router = APIRouter()
    endpoint = BatchEndpoint(answering, body)

    @router.post(
        PATH, response_class=_Streamed, responses=openapi.problems() | openapi.ndjson(), openapi_extra=openapi.batch()
    )
    async def batch(request: Request) -> Response:
        """Names, one JSON object a line, each with an `id` of yours; one answer or problem a line, in the same order."""
        return await endpoint(request)

    return router
