"""Answers in this process and those it starts: an audio engine for files, one reader per core for names."""

import asyncio
import multiprocessing
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from multiprocessing.connection import Connection
from typing import Any

from app.catalogue.rows import Row, Scored
from app.domain import Track
from app.errors import InternalError, LridError, ReleaseError

Answer = Callable[[Sequence[Track]], list[Scored]]  # tracks without audio
END_SECONDS = 5.0


class NamesProcesses:
    """Groups of names go to whichever process is free."""

    def __init__(self, make: Callable[[], Answer], n: int) -> None:
        """`make` is called in each process; it can be pickled. Starts the processes."""
        context = multiprocessing.get_context("spawn")
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        self._connections: list[Any] = []
        self._processes = []
        for _ in range(n):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, make), daemon=True)
            process.start()
            there.close()
            self._processes.append(process)
            self._connections.append(here)
            self._free.put_nowait(here)

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        """Answers in the order of `rows`. Raises ReleaseError, or InternalError when a process died."""
        connection = await self._free.get()
        try:
            return await asyncio.to_thread(_exchange, connection, [row.track for row in rows])
        finally:
            self._free.put_nowait(connection)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()  # ends the loop at the other end
        for process in self._processes:
            process.join(END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _exchange(connection: Connection, names: list[Track]) -> list[Scored]:
    try:
        connection.send(names)
        answer = connection.recv()
    except (EOFError, OSError) as error:
        raise InternalError("a process that reads names has ended; the same command goes on where it stopped") from error
    if isinstance(answer, str):
        raise ReleaseError(answer)
    return answer  # type: ignore[no-any-return]


def _work(connection: Connection, make: Callable[[], Answer]) -> None:
    """The process: answers groups until the other end is closed."""
    try:
        answer = make()
    except LridError as error:
        connection.send(error.detail)
        return
    while True:
        try:
            names = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        connection.send(scored_by_names(answer, names))


def scored_by_names(answer: Answer, names: Sequence[Track]) -> list[Scored]:
    """A song that cannot be answered costs only itself."""
    try:
        return answer(names)
    except Exception:
        if len(names) == 1:
            return [Scored(error=InternalError.code)]
        return [scored for one in names for scored in scored_by_names(answer, [one])]


Listen = Callable[[Row], Awaitable[Mapping[str, Any]]]  # a row with audio → the body of its answer; raises LridError


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Here:
    """Implements `score.Answerer`. What names need starts with the first name, what files need with the first file."""

    def __init__(
        self, files: Callable[[], AbstractAsyncContextManager[Listen]], names: Callable[[], Answer], files_at_once: int
    ) -> None:
        """`files`: loads what answers a file; `names`: the same for names, in another process."""
        self.files_at_once = files_at_once
        self.groups_at_once = 3 * cores()  # each process has its next group before the last one is written
        self._load_files, self._load_names = files, names
        self._stack = AsyncExitStack()
        self._loading = asyncio.Lock()
        self._listen: Listen | None = None
        self._processes: NamesProcesses | None = None

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        """Raises ReleaseError, InternalError."""
        if self._processes is None:
            self._processes = NamesProcesses(self._load_names, cores())
        return await self._processes.names(rows)

    async def file(self, row: Row) -> Scored:
        """Raises ReleaseError."""
        async with self._loading:
            if self._listen is None:
                self._listen = await self._stack.enter_async_context(self._load_files())
        try:
            return Scored.of(await self._listen(row))
        except LridError as error:
            return Scored(error=error.code)

    async def close(self) -> None:
        if self._processes is not None:
            await asyncio.to_thread(self._processes.close)
        await self._stack.aclose()
