"""Identifies without a server, with the same identifier, batcher and decoders."""

import asyncio
import logging
import math
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from app.catalogue.files import FileAnswer, Found, read_file
from app.catalogue.names import names_processes, scored_in_process
from app.catalogue.rows import Row, Scored
from app.domain import Track
from app.errors import InternalError, InvalidOption, LridError
from app.families.contract import further_fields
from app.families.fields import further_values
from app.families.store import release_folder
from app.http.answer import build_response, view_of
from app.http.options import DEFAULT_OPTIONS, IdentifyRequest, Options
from app.main import build_identifier, build_pool
from app.serving.identifier import Identifier
from app.serving.metrics import Metrics
from app.serving.scheduling import let_threads_sleep
from app.settings import MEGABYTE, Settings

log = logging.getLogger("lrid.local")

AHEAD = 64  # files that may wait for one that takes long, so that answers keep their order


def cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def files_at_once(settings: Settings) -> int:
    """Says how many files are in work: each decoder, and each thread of the ears, has the next one waiting."""
    return 2 * (settings.decode_workers + (settings.torch_threads or cores()))


class LocalIdentifier:
    """Answers what POST /identify would."""

    def __init__(self, identifier: Identifier, settings: Settings) -> None:
        self._identifier = identifier
        self._settings = settings
        self._gate = asyncio.Semaphore(files_at_once(settings))

    def check(self, request: IdentifyRequest) -> None:
        """Raises what is wrong with the request whatever the file."""
        model = self._identifier.model
        model.task.check(view_of(request.options))
        fields = further_fields(model)
        if request.track.further.keys() - fields.keys():
            raise InvalidOption("this release reads no lyrics")
        further_values(request.track.further, fields)

    async def answer(self, path: Path | None, track: Track, options: Options) -> FileAnswer:
        """Answers a file; without one, what is written in `track`. What the release does not read is ignored.

        Without metadata the file's own tags are read. Anything unforeseen is an InternalError.
        """
        model = self._identifier.model
        try:
            async with self._gate:
                if path is not None:
                    audio = await asyncio.to_thread(read_file, path, int(self._settings.max_upload_mb * MEGABYTE))
                    track = replace(track, audio=audio)
                track = replace(track, further=further_values(track.further, further_fields(model)))
                deadline = asyncio.get_running_loop().time() + self._settings.request_timeout_seconds
                found = await self._identifier.identify(track, options, deadline)
            return FileAnswer(path, build_response(found), None)
        except LridError as error:
            return FileAnswer(path, None, error)
        except Exception as error:
            log.exception("unforeseen error")
            return FileAnswer(path, None, InternalError(f"{type(error).__name__}; the log says why"))


@asynccontextmanager
async def local_identifier(settings: Settings, *, listen: bool) -> AsyncIterator[LocalIdentifier]:
    """`listen=False` starts no decoder and prepares no device: for names alone. Raises ReleaseError."""
    release_folder(settings.model_store, settings.model)  # a wrong name is refused before torch is imported
    let_threads_sleep()
    pool = build_pool(settings)
    started = asyncio.ensure_future(asyncio.to_thread(pool.start)) if listen else None  # while the release is loaded
    identifier = None
    try:
        patient = settings.model_copy(update={"queue_max_seconds": math.inf})
        identifier = await build_identifier(patient, pool, Metrics(), settings.model, listen=listen)
        if started is not None:
            await started
        yield LocalIdentifier(identifier, settings)
    finally:
        if identifier is not None:
            await identifier.stop()
        if started is not None:
            await asyncio.gather(started, return_exceptions=True)
            await asyncio.to_thread(pool.close)


class Here:
    """Implements `score.Answerer` in this process, which listens to files, and in one per core that reads names.

    What names need starts with the first name, what files need with the first file.
    """

    def __init__(self, settings: Settings, options: Options = DEFAULT_OPTIONS) -> None:
        self.files_at_once = files_at_once(settings)
        self.groups_at_once = 3 * cores()  # each process has its next group before the last one is written
        self._settings = settings
        self._options = options
        self._stack = AsyncExitStack()
        self._loading = asyncio.Lock()
        self._identifier: LocalIdentifier | None = None
        self._processes: ProcessPoolExecutor | None = None

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        """Raises ReleaseError, or InternalError when a process died."""
        if self._processes is None:
            self._processes = names_processes(cores())
        songs, loop = [row.track for row in rows], asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._processes, scored_in_process, self._settings, songs)
        except BrokenProcessPool as error:
            raise InternalError("a process that reads names has ended; the same command goes on where it stopped") from error

    async def file(self, row: Row) -> Scored:
        """Raises ReleaseError."""
        assert row.path is not None
        async with self._loading:
            if self._identifier is None:
                self._identifier = await self._stack.enter_async_context(local_identifier(self._settings, listen=True))
        found = await self._identifier.answer(row.path, row.track, self._options)
        if found.error is not None:
            return Scored(error=found.error.code)
        assert found.answer is not None
        return Scored.of(found.answer)

    async def close(self) -> None:
        if self._processes is not None:
            await asyncio.to_thread(self._processes.shutdown, cancel_futures=True)
        await self._stack.aclose()


async def identify_files(
    settings: Settings, files: Iterable[Found], request: IdentifyRequest
) -> AsyncGenerator[FileAnswer, None]:
    """Answers in the order of `files`, each as soon as those before it are there. Raises ReleaseError."""
    async with local_identifier(settings, listen=True) as identifier:
        identifier.check(request)
        waiting: deque[asyncio.Task[FileAnswer]] = deque()
        try:
            for found in files:
                waiting.append(asyncio.create_task(_answer(identifier, found, request)))
                await asyncio.sleep(0)
                while waiting and (waiting[0].done() or len(waiting) > AHEAD):
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def _answer(identifier: LocalIdentifier, found: Found, request: IdentifyRequest) -> FileAnswer:
    if found.error is not None:
        return FileAnswer(found.path, None, found.error)
    return await identifier.answer(found.path, request.track, request.options)


async def identify_names(settings: Settings, request: IdentifyRequest) -> FileAnswer:
    """Answers artist, album, title and lyrics alone. Raises ReleaseError."""
    async with local_identifier(settings, listen=False) as identifier:
        try:
            identifier.check(request)
        except LridError as error:
            return FileAnswer(None, None, error)
        return await identifier.answer(None, request.track, request.options)
