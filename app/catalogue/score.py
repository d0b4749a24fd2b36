"""Many songs: rows in, rows out as they are answered, decoders and ears busy together, at most so many in memory."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from app.catalogue.errors import OutputFailed, RowDuplicate
from app.catalogue.output import Output
from app.catalogue.rows import Row, Scored
from app.catalogue.sources import folder_rows
from app.catalogue.summary import Summary

GROUP_ROWS = 512  # names that are answered together
DISK_WAIT_SECONDS = 60.0  # for a full disk, until the run ends
_DISK_POLL_SECONDS = 2.0

Answered = list[tuple[Row, Scored]]


class Answerer(Protocol):
    """Answers rows, in this process or by servers. A bad row is an answer with an error; an exception ends the run."""

    files_at_once: int
    groups_at_once: int

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        """Rows without audio, in their order."""

    async def file(self, row: Row) -> Scored:
        """A row with audio."""


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
        self._times: dict[int, int] = {}  # of ids that occur more than once in the input
        self._seen: set[int] = set()
        self._files: set[asyncio.Task[Answered]] = set()
        self._groups: set[asyncio.Task[Answered]] = set()
        for record in output.earlier():
            self._done.add(hash(record["id"]))
            self.summary.count(record)

    async def run(self, rows: Iterable[Row | None]) -> None:
        """Answer what is not answered yet. Raises OutputFailed, ReleaseError, ServerUnreachable."""
        iterator = iter(rows)
        taking = asyncio.create_task(asyncio.to_thread(_take, iterator))
        try:
            while taken := await self._taken(taking):
                taking = asyncio.create_task(asyncio.to_thread(_take, iterator))
                await self._begin(list(self._unanswered(taken)))
            while self._files or self._groups:
                await self._collect()
        finally:
            left = self._files | self._groups | {taking}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def forget(self) -> None:
        """After a run: forget the ids of this pass over a folder; they are answered, and no duplicates in the next one."""
        self._done |= self._seen
        self._seen.clear()

    def has(self, row: Row) -> bool:
        return hash(row.id) in self._done

    def _unanswered(self, rows: Iterable[Row | None]) -> Iterator[Row]:
        for given in rows:
            if given is None:
                continue
            row, key = given, hash(given.id)
            if key in self._seen:
                self._times[key] = self._times.get(key, 1) + 1
                name = f"{row.id}#{self._times[key]}"
                row = replace(row, id=name, error=RowDuplicate("a row before has the same id"))
                key = hash(name)
            self._seen.add(key)
            if key in self._done:
                self.skipped += 1
            else:
                yield row

    async def _begin(self, rows: list[Row]) -> None:
        bad = [(row, Scored(error=row.error.code)) for row in rows if row.error is not None]
        if bad:
            await self._write(bad)
        for row in rows:
            if row.error is None and row.path is not None:
                while len(self._files) >= self._answerer.files_at_once:
                    await self._collect()
                self._files.add(asyncio.create_task(self._file(row)))
        names = [row for row in rows if row.error is None and row.path is None]
        if names:
            while len(self._groups) >= self._answerer.groups_at_once:
                await self._collect()
            self._groups.add(asyncio.create_task(self._names(names)))

    async def _file(self, row: Row) -> Answered:
        return [(row, await self._answerer.file(row))]

    async def _names(self, rows: list[Row]) -> Answered:
        return list(zip(rows, await self._answerer.names(rows), strict=True))

    async def _taken(self, taking: asyncio.Task[list[Row | None]]) -> list[Row | None]:
        """The next rows; answers that arrive before them are written."""
        while not taking.done():
            await self._collect(taking)
        return taking.result()

    async def _collect(self, *other: asyncio.Task[Any]) -> None:
        """Wait for answers, or something else, and write those that there are."""
        own = self._files | self._groups
        done, _ = await asyncio.wait({*own, *other}, return_when=asyncio.FIRST_COMPLETED)
        done &= own
        answered = [pair for task in done for pair in task.result()]  # if one fails, all stay, for `run` to await
        self._files -= done
        self._groups -= done
        if answered:
            await self._write(answered)

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
    """The next group; fewer rows where no more have come yet, none at the end."""
    taken: list[Row | None] = []
    for row in islice(rows, GROUP_ROWS):
        taken.append(row)
        if row is None:
            break
    return taken


async def watch(scoring: Scoring, folder: Path, between_seconds: float) -> None:
    """Until cancelled. A file is whole when it keeps size and time between two looks; each is answered once."""
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
