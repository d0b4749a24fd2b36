"""Many songs: rows in, rows out as they are answered, decoders and ears busy together, at most so many in memory."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from app.catalogue.errors import OutputFailed
from app.catalogue.output import Output
from app.catalogue.rows import Row, Scored, unlike
from app.catalogue.sources import folder_rows
from app.catalogue.summary import Summary
from app.errors import InternalError

GROUP_ROWS = 512  # names that are answered together
DISK_WAIT_SECONDS = 60.0  # for a full disk, until the run ends
_DISK_POLL_SECONDS = 2.0

Answered = list[tuple[Row, Scored]]


class Answerer(Protocol):
    """Answers rows, in this process or by servers. A bad row is an answer with an error; an exception ends the run."""

    files_at_once: int
    groups_at_once: int

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        """Answer rows without audio, in their order."""

    async def file(self, row: Row) -> Scored:
        """Answer a row with audio."""


class Scoring:
    """One run; may be given further rows afterwards."""

    def __init__(self, answerer: Answerer, output: Output, on_rows: Callable[[int, int], None]) -> None:
        """`on_rows` gets the number of rows that were just written, and of those among them with an error."""
        self.summary = Summary()
        self.skipped = 0  # rows that an earlier run has answered
        self._answerer = answerer
        self._output = output
        self._on_rows = on_rows
        self._done: set[int] = set()  # hashes of ids: a million take 75 MB
        self._times: dict[int, int] = {}  # how often each id came, by its hash
        self._files = asyncio.Semaphore(answerer.files_at_once)
        self._groups = asyncio.Semaphore(answerer.groups_at_once)
        for record in output.earlier():
            self._done.add(hash(record["id"]))
            self.summary.count(record)

    async def run(self, rows: Iterable[Row | None]) -> None:
        """Answer what is not answered yet. Raises OutputFailed, ReleaseError, ServerUnreachable, InternalError."""
        iterator = iter(rows)
        try:
            async with asyncio.TaskGroup() as tasks:
                while taken := await asyncio.to_thread(_take, iterator):
                    await self._begin(list(self._unanswered(taken)), tasks)
        except BaseExceptionGroup as failed:  # the first failure ends the others
            raise failed.exceptions[0] from None

    def forget(self) -> None:
        """After a run: forget the ids of this pass over a folder; they are answered, and no duplicates in the next one."""
        self._done |= self._times.keys()
        self._times.clear()

    def has(self, row: Row) -> bool:
        return hash(row.id) in self._done

    def _unanswered(self, rows: Iterable[Row | None]) -> Iterator[Row]:
        for row in unlike((row for row in rows if row is not None), self._times):
            if self.has(row):
                self.skipped += 1
            else:
                yield row

    async def _begin(self, rows: list[Row], tasks: asyncio.TaskGroup) -> None:
        """Start on the rows as soon as there is room."""
        bad = [(row, Scored(error=row.error.code)) for row in rows if row.error is not None]
        if bad:
            await self._write(bad)
        good = [row for row in rows if row.error is None]
        files = [([row], self._files) for row in good if row.path is not None]
        for together, room in [*files, ([row for row in good if row.path is None], self._groups)]:
            if together:
                await room.acquire()
                tasks.create_task(self._answer(together, room))

    async def _answer(self, rows: list[Row], room: asyncio.Semaphore) -> None:
        """`rows`: one with audio, or any number without."""
        try:
            audio = rows[0].path is not None
            scored = [await self._answerer.file(rows[0])] if audio else await self._answerer.names(rows)
            await self._write(list(zip(rows, scored, strict=True)))
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise InternalError("the work on a row was cancelled, though the run was not") from error
        finally:
            room.release()

    async def _write(self, answered: Answered) -> None:
        """Waits for a full disk. Raises OutputFailed."""
        until = time.monotonic() + DISK_WAIT_SECONDS
        while True:
            try:
                self._output.write(answered)
                break
            except OutputFailed:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(_DISK_POLL_SECONDS)
        for _, scored in answered:
            self.summary.count(scored._asdict())
        self._on_rows(len(answered), sum(bool(scored.error) for _, scored in answered))


def _take(rows: Iterator[Row | None]) -> list[Row | None]:
    """Take the next group; fewer rows where no more have come yet, none at the end."""
    taken: list[Row | None] = []
    for row in islice(rows, GROUP_ROWS):
        taken.append(row)
        if row is None:
            break
    return taken


async def watch(scoring: Scoring, folder: Path, between_seconds: float) -> None:
    """Answer files that come, each once, until cancelled. A file is whole when it keeps size and time between two looks."""
    before: dict[str, object] = {}
    while True:
        looked = await asyncio.to_thread(lambda: list(_look(folder)))
        whole = [row for row, state in looked if (row.error or before.get(row.id) == state) and not scoring.has(row)]
        await scoring.run(whole)
        scoring.forget()
        before = {row.id: state for row, state in looked}
        await asyncio.sleep(between_seconds)


def _look(folder: Path) -> Iterator[tuple[Row, object]]:
    for row in folder_rows(folder):
        try:
            status = row.path.stat() if row.path is not None else None
        except OSError:
            continue  # gone since
        yield row, status and (status.st_size, status.st_mtime_ns)
