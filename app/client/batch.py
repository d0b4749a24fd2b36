"""Names by the thousand: rows are sent in blocks small enough to be on their way before the first answer must be read.

The server answers while it reads, and stops reading where answers are not read. httpx sends a body before it reads; a block
fits into the buffers between, so neither waits for the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
from pydantic_core import from_json, to_json

from app.client.calls import ServerUnreachable, answer_of, not_ours, refusal
from app.http.schemas import IdentifyResponse, Problem

BLOCK_BYTES = 48_000
BLOCK_LINES = 512
ENDED = frozenset({"draining", "deadline_exceeded"})  # codes of a last line without `id`: what is behind it was not answered

Row = Mapping[str, object]  # title, artist, album; options of this row; `id`: its name in your table


@dataclass(frozen=True)
class BatchAnswer:
    """One row's answer or problem; exactly one of the two is there."""

    id: str | int | None
    body: Mapping[str, Any]  # as the server has sent it, whatever its release answers

    @cached_property
    def answer(self) -> IdentifyResponse | None:
        """Raises NoLanguages."""
        return None if "code" in self.body else answer_of(self.body)

    @cached_property
    def problem(self) -> Problem | None:
        return Problem.model_validate(self.body) if "code" in self.body else None


@dataclass(slots=True)
class Block:
    """Rows that are sent together. Answers are told apart by their place: the server keeps the order."""

    ids: list[str | int | None] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)

    def answered(self, response: httpx.Response) -> list[BatchAnswer]:
        """The answers of the first rows, which leave the block: at least one, so that a batch gets on. Raises ClientError.

        Fewer than rows: the server ended the stream early.
        """
        if not response.is_success:
            raise refusal(response)
        found = []
        try:
            for name, line in zip(self.ids, response.content.splitlines(), strict=False):
                body = from_json(line)
                if body["id"] is None and body.get("code") in ENDED:
                    break
                found.append(BatchAnswer(name, body))
        except (ValueError, TypeError, LookupError):
            raise not_ours(response) from None
        if not found:
            raise ServerUnreachable(f"{response.url} ended the batch before the first answer")
        del self.ids[: len(found)], self.lines[: len(found)]
        return found


def blocks(rows: Iterable[Row]) -> Iterator[Block]:
    """Rows in their order, as they come. Raises TypeError for an `id` that is neither text nor an integer."""
    block, size = Block(), 0
    for row in rows:
        line = to_json(dict(row) | {"id": 0}) + b"\n"
        if block.lines and (size + len(line) > BLOCK_BYTES or len(block.lines) == BLOCK_LINES):
            yield block
            block, size = Block(), 0
        block.ids.append(_id(row.get("id")))
        block.lines.append(line)
        size += len(line)
    if block.lines:
        yield block


def _id(value: object) -> str | int | None:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise TypeError(f"id: expected a string or an integer, got {type(value).__name__}")
    return value
