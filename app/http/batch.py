"""POST /identify/batch: many names, one JSON object a line, answered in their order while they come.

Nothing is collected: lines are read from the socket only as answers are written to it, a group at a time, so memory does not
grow with the number of lines. A line fails alone. An error that ends the whole stream is its last line, with `"id": null`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

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


def split_lines(held: bytes, chunk: bytes, max_bytes: int) -> tuple[list[bytes | None], bytes]:
    """The lines that end in `chunk`, None for one that is too long; and the beginning of the next, to be held.

    `held`: what came before `chunk` without a line end. Of a line that is too long, as much is held as tells that it is.
    """
    *whole, rest = (held + chunk).split(b"\n")
    return [line if len(line) <= max_bytes else None for line in whole], rest[: max_bytes + 1]


class _Streamed(StreamingResponse):
    """Leaves `receive` to the reader of the request: Starlette's would swallow the lines while it looks for a disconnect."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines in, lines out, of one request."""

    answering: Answering
    body: BodyReader
    request: Request
    query: Mapping[str, str]  # options of all lines
    chunks: AsyncIterator[bytes]

    async def answered(self) -> AsyncIterator[bytes]:
        """Lines with answers. An error that ends all is the last one."""
        with self.answering.metrics.in_flight.track_inprogress():
            try:
                async for lines in self._groups():
                    yield b"".join([to_json(answer) + b"\n" for answer in await self._answers(lines)])
            except LridError as error:
                self.request.scope["lrid.code"] = error.code
                yield to_json(self._failed(None, error)) + b"\n"

    async def _groups(self) -> AsyncIterator[list[bytes | None]]:
        """Lines that have come, some at a time; blank ones are left out. The last one needs no end."""
        most, held, ended = self.body.max_json_bytes, b"", False
        while not ended:
            chunk = await self._next()
            ended = not chunk
            lines, held = split_lines(held, chunk or b"\n", most)
            given = [line for line in lines if line is None or (line and not line.isspace())]
            for start in range(0, len(given), GROUP_LINES):
                yield given[start : start + GROUP_LINES]

    async def _next(self) -> bytes:
        """The next bytes that are any; none at the end. Raises ClientGone, DeadlineExceeded, MalformedEncoding."""
        try:
            async with asyncio.timeout_at(self.answering.deadline(self.request)):
                async for chunk in self.chunks:
                    if chunk:
                        return chunk
        except ClientDisconnect:
            raise ClientGone("the batch was cut off") from None
        except TimeoutError:
            raise DeadlineExceeded("no further line came in time") from None
        return b""

    async def _answers(self, lines: Sequence[bytes | None]) -> list[Json]:
        """The answer or the problem of each line. Raises Draining: the lines behind will not be answered either."""
        deadline = self.answering.deadline(self.request)
        try:
            with self.answering.service.lease() as identifier:
                return await asyncio.gather(*[self._line(line, identifier, deadline) for line in lines])
        except NotReady as error:
            return [self._failed(_id_of(line), error) for line in lines]

    async def _line(self, line: bytes | None, identifier: Identifier, deadline: float) -> Json:
        name: str | int | None = None
        asked: IdentifyRequest | None = None
        try:
            if line is None:
                raise self.body.too_long("a line")
            fields = json_object(line)
            name = _taken_id(fields)
            asked = self.body.request_of(fields, self.query)
            return {"id": name} | await self.answering.answer(identifier, asked, deadline, self.request)
        except LridError as error:
            if asked is None:
                self.answering.metrics.count_request("none", error.code)
            return self._failed(name, error)
        except Exception:
            log.exception("unforeseen error", extra={"fields": {"request_id": self.request.scope.get("lrid.request_id")}})
            return self._failed(name, InternalError("the log says why"))

    def _failed(self, name: str | int | None, error: LridError) -> Json:
        problem = {"id": name} | problem_of(error, self.request.scope.get("lrid.request_id", "")).model_dump()
        if error.retry_after_seconds is not None:
            problem["retry_after_seconds"] = round(error.retry_after_seconds, 1)
        return problem


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


def build_batch_router(answering: Answering, body: BodyReader) -> APIRouter:
    router = APIRouter()

    @router.post(
        PATH, response_class=_Streamed, responses=openapi.problems() | openapi.ndjson(), openapi_extra=openapi.batch()
    )
    async def batch(request: Request) -> Response:
        """Names, one JSON object a line, each with an `id` of yours; one answer or problem a line, in the same order."""
        with answering.counted("none", failures_only=True):  # once the first line was read, errors stand in the last one
            if (kind := media_type(request)) not in ACCEPTED:
                raise UnsupportedContentType(f"got {kind[:60]!r}; a batch is {MEDIA_TYPE}")
            lines = Batch(answering, body, request, query_options(request), body_chunks(request))
            answering.deadline(request)
            with answering.service.lease():
                return _Streamed(lines.answered(), media_type=MEDIA_TYPE)

    return router
