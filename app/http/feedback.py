"""POST /feedback: "that answer was wrong". Off unless the operator names a file, to which each correction adds a JSON line.

Audio is never stored, names only where the operator allows it. The file and each line are bounded.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from app.domain import METADATA_FIELDS
from app.errors import FeedbackClosed, InvalidOption, NotFound
from app.families.tasks import Json
from app.http import openapi
from app.http.body import BodyReader
from app.http.options import first_fault

PATH = "/feedback"
RIGHTS = 0o600  # of a file that is made here
Code = Annotated[str, Field(pattern=r"^([a-z]{2,3}|others)$")]
Name = Annotated[str | None, Field(max_length=1000)]


class Feedback(BaseModel):
    """One correction."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="X-Request-Id of the answer.")
    hash: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the audio file.")
    answer: Code = Field(description="`language` of the answer.")
    correction: Code = Field(description="What it should have been; `zxx`: nothing is sung; `mul`: several languages.")
    title: Name = None
    album: Name = None
    artist: Name = None


@dataclass(frozen=True, slots=True)
class FeedbackFile:
    """The file that corrections are appended to."""

    path: Path
    max_bytes: int
    keep_names: bool  # title, album and artist too

    def append(self, feedback: Feedback) -> None:
        """One line in one write, so that several writers do not mix. Raises FeedbackClosed."""
        kept: Json = feedback.model_dump(exclude_none=True, exclude=None if self.keep_names else set[str](METADATA_FIELDS))
        line = to_json({"time": round(time.time(), 3)} | kept) + b"\n"
        try:
            with open(self.path, "ab", buffering=0, opener=partial(os.open, mode=RIGHTS)) as file:
                if os.fstat(file.fileno()).st_size + len(line) > self.max_bytes:
                    raise FeedbackClosed(f"the file has its {self.max_bytes} bytes")
                if file.write(line) < len(line):
                    raise FeedbackClosed("the disk is full")
        except OSError as error:
            raise FeedbackClosed(f"the file cannot be written: {error.strerror}") from None


def build_feedback_router(file: FeedbackFile | None, body: BodyReader) -> APIRouter:
    """`file` is None where nothing is collected."""
    router = APIRouter()

    @router.post(PATH, status_code=204, responses=openapi.problems(NotFound), openapi_extra=_described())
    async def feedback(request: Request) -> Response:
        """Say that an answer was wrong. 404 where the operator collects nothing."""
        if file is None:
            raise NotFound("this server collects no feedback")
        try:
            given = Feedback.model_validate(await body.read_json(request))
        except ValidationError as error:
            raise InvalidOption(first_fault(error.errors())) from None
        await asyncio.to_thread(file.append, given)
        return Response(status_code=204)

    return router


def _described() -> Json:
    schema = Feedback.model_json_schema()
    example = {"id": "1bba720855604f748695ae692cd1a7df", "answer": "es", "correction": "pt"}
    media = openapi.media(schema["properties"], tuple(schema["required"]), correction=example)
    return {"requestBody": openapi.body({"application/json": media})}
