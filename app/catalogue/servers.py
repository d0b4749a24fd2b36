"""Answers by running servers, in turn; one that goes away is asked again when it may be back."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence

from app.catalogue.errors import ServerUnreachable
from app.catalogue.files import read_file
from app.catalogue.rows import Row, Scored
from app.client import AsyncLridClient, ClientError, NoLanguages, Options, RequestRefused
from app.client import ServerUnreachable as NoAnswer
from app.domain import LYRICS, METADATA_FIELDS
from app.errors import LridError
from app.settings import MEGABYTE

PATIENCE_SECONDS = 600.0  # without any answer of any server
AWAY_SECONDS = 2.0  # before a server that did not answer is asked again
CALL_SECONDS = 60.0
FILES_PER_SERVER = 8  # in progress; every server accepts as many
_MOST_BYTES = 1000 * MEGABYTE  # of a file; servers have lower limits of their own
_BUSY = frozenset({429, 502, 503})  # the server, not the row
_WRONG = frozenset({401, 403, 404, 405})  # no row will be answered


class Servers:
    """Implements `score.Answerer`."""

    def __init__(self, urls: Sequence[str], key: str | None, options: Options) -> None:
        self.files_at_once = FILES_PER_SERVER * len(urls)
        self.groups_at_once = 2 * len(urls)
        # retries are made here, where another server may be free
        self._clients = [AsyncLridClient(url, key=key, timeout_seconds=CALL_SECONDS, retries=False) for url in urls]
        self._options = options
        self._read: dict[int, frozenset[str]] = {}  # what each server's release reads, once that was asked
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
            left = rows[len(answers) :]
            try:
                sent = _sent(left, await self._columns(server, left))
                async for answer in self._clients[server].identify_batch(sent, self._options):
                    code = answer.body.get("code")
                    answers.append(Scored.of(answer.body) if code is None else Scored(error=code))
                    self._answered_at = time.monotonic()
            except ClientError as error:
                self._wait_for(server, error)
        return answers

    async def file(self, row: Row) -> Scored:
        """Raises as `names` does."""
        assert row.path is not None
        try:
            audio = await asyncio.to_thread(read_file, row.path, _MOST_BYTES)
        except LridError as error:
            return Scored(error=error.code)
        while True:
            server = await self._next()
            try:
                (names,) = _sent([row], await self._columns(server, [row]))
                answer = await self._clients[server].identify(audio, **names, options=self._options)
            except NoLanguages as other:
                return Scored.of(other.body)
            except ClientError as error:
                if isinstance(error, RequestRefused) and error.problem.status not in _BUSY | _WRONG:
                    return Scored(error=error.code)
                self._wait_for(server, error)
            else:
                self._answered_at = time.monotonic()
                return Scored.of(answer.model_dump())

    async def _columns(self, server: int, rows: Sequence[Row]) -> Sequence[str]:
        """What is sent of these rows. A release that reads no lyrics would refuse them. Raises ClientError."""
        if not any(row.lyrics for row in rows):
            return METADATA_FIELDS
        if server not in self._read:
            self._read[server] = frozenset((await self._clients[server].languages()).modalities)
        return (*METADATA_FIELDS, LYRICS) if LYRICS in self._read[server] else METADATA_FIELDS

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

    def _wait_for(self, server: int, error: ClientError) -> None:
        """Raises ServerUnreachable where waiting is of no use."""
        now = time.monotonic()
        refused = error if isinstance(error, RequestRefused) else None
        if refused.problem.status not in _BUSY if refused else not isinstance(error, NoAnswer):
            raise ServerUnreachable(str(error))
        if now - self._answered_at > PATIENCE_SECONDS:
            raise ServerUnreachable(f"no answer for {PATIENCE_SECONDS:g} s; {error}")
        if self._back_at[server] < self._answered_at:
            print(f"{error}; it is asked again, for {PATIENCE_SECONDS / 60:g} minutes", file=sys.stderr)
        self._read.pop(server, None)  # it may come back with another release
        asked = refused.retry_after_seconds if refused else None
        self._back_at[server] = now + (asked or AWAY_SECONDS)


def _sent(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[dict[str, str]]:
    for row in rows:
        given = {name: getattr(row.metadata, name) for name in METADATA_FIELDS} | {LYRICS: row.lyrics}
        yield {name: text for name in columns if (text := given[name]) is not None}
