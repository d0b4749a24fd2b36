"""Answers by running servers, in turn; one that goes away is asked again when it may be back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from app.catalogue.errors import ServerUnreachable
from app.catalogue.files import MEGABYTE, read_file
from app.catalogue.rows import Row, Scored
from app.client import AsyncLridClient, Options, RequestRefused
from app.client import ServerUnreachable as NoAnswer
from app.client.batch import BatchAnswer
from app.domain import METADATA_FIELDS
from app.errors import LridError

PATIENCE_SECONDS = 600.0  # without any answer of any server
AWAY_SECONDS = 2.0  # before a server that did not answer is asked again
CALL_SECONDS = 60.0
_MOST_BYTES = 1000 * MEGABYTE  # of a file; servers have lower limits of their own
_BUSY = frozenset({429, 502, 503})  # the server, not the row
_WRONG = frozenset({401, 403, 404, 405})  # no row will be answered

SHORT = Options(top_k=2)


class Servers:
    """Implements `score.Answerer`."""

    def __init__(self, urls: Sequence[str], key: str | None = None) -> None:
        self.files_at_once = 4 * len(urls)
        self.groups_at_once = 2 * len(urls)
        # retries are made here, where another server may be free
        self._clients = [AsyncLridClient(url, key=key, timeout_seconds=CALL_SECONDS, retries=False) for url in urls]
        self._back_at = [0.0] * len(urls)  # time.monotonic()
        self._turn = 0
        self._answered_at = time.monotonic()

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        """Raises ServerUnreachable, and what is wrong with the servers' addresses or key."""
        answers: list[Scored] = []
        while len(answers) < len(rows):
            server = await self._next()
            try:
                async for answer in self._clients[server].identify_batch(_sent(rows[len(answers) :]), SHORT):
                    answers.append(_scored(answer))
                    self._answered_at = time.monotonic()
            except (NoAnswer, RequestRefused) as error:
                self._wait_for(server, error)
        return answers

    async def file(self, row: Row) -> Scored:
        """Raises as `names` does."""
        assert row.path is not None
        try:
            audio = await asyncio.to_thread(read_file, row.path, _MOST_BYTES)
        except LridError as error:
            return Scored(error=error.code)
        names = {name: getattr(row.metadata, name) for name in METADATA_FIELDS}
        while True:
            server = await self._next()
            try:
                answer = await self._clients[server].identify(audio, **names, options=SHORT)
            except (NoAnswer, RequestRefused) as error:
                if isinstance(error, RequestRefused) and error.problem.status not in _BUSY | _WRONG:
                    return Scored(error=error.code)
                self._wait_for(server, error)
            else:
                self._answered_at = time.monotonic()
                return Scored.of(answer.model_dump())

    async def _next(self) -> int:
        """The next server that may be there."""
        while True:
            now = time.monotonic()
            for step in range(1, len(self._clients) + 1):
                server = (self._turn + step) % len(self._clients)
                if self._back_at[server] <= now:
                    self._turn = server
                    return server
            await asyncio.sleep(min(self._back_at) - now)

    def _wait_for(self, server: int, error: NoAnswer | RequestRefused) -> None:
        now = time.monotonic()
        if isinstance(error, RequestRefused) and error.problem.status not in _BUSY:
            raise ServerUnreachable(str(error))
        if now - self._answered_at > PATIENCE_SECONDS:
            raise ServerUnreachable(f"no answer for {PATIENCE_SECONDS:g} s; {error}")
        asked = error.retry_after_seconds if isinstance(error, RequestRefused) else None
        self._back_at[server] = now + (asked or AWAY_SECONDS)


def _sent(rows: Sequence[Row]) -> Iterator[dict[str, object]]:
    for row in rows:
        yield {name: value for name in METADATA_FIELDS if (value := getattr(row.metadata, name)) is not None}


def _scored(answer: BatchAnswer) -> Scored:
    if answer.answer is None:
        return Scored(error=answer.problem.code if answer.problem is not None else "internal_error")
    return Scored.of(answer.answer.model_dump())
