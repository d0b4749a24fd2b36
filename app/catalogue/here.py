"""Answers in this process and those it starts: an audio engine for files, one reader per core for names."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from app.catalogue.processes import Answer, NamesProcesses
from app.catalogue.rows import Row, Scored
from app.errors import LridError

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
