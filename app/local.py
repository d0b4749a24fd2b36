"""Identify without a server, with the same identifier, batcher and decoders."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.catalogue.files import MEGABYTE, FileAnswer, Found, read_file
from app.catalogue.here import Listen, cores
from app.catalogue.rows import Row
from app.domain import LYRICS, Metadata, Track
from app.errors import InternalError, InvalidOption, LridError
from app.families.contract import further_fields
from app.families.fields import further_values
from app.families.store import release_folder
from app.families.tasks import Json
from app.http.answer import build_response, identify_options, view_of
from app.http.options import Options
from app.main import build_identifier, build_pool
from app.serving.identifier import Identifier
from app.serving.metrics import Metrics
from app.serving.scheduling import let_threads_sleep
from app.settings import Settings

log = logging.getLogger("lrid.local")

AHEAD = 64  # files that may wait for one that takes long, so that answers keep their order


@dataclass(frozen=True, slots=True)
class FileRequest:
    """The same request for every file."""

    metadata: Metadata  # given by hand; if it is empty, the files' own tags are read
    options: Options
    lyrics: str | None = None


def files_at_once(settings: Settings) -> int:
    """Each decoder, and each thread of the ears, has the next file waiting; few enough for memory."""
    return 2 * (settings.decode_workers + (settings.torch_threads or cores()))


class LocalIdentifier:
    """Answers what POST /identify would."""

    def __init__(self, identifier: Identifier, settings: Settings) -> None:
        self.identifier = identifier
        self._settings = settings
        self._gate = asyncio.Semaphore(files_at_once(settings))

    async def file(self, path: Path, request: FileRequest) -> Json:
        """Raises LridError."""
        async with self._gate:
            audio = await asyncio.to_thread(read_file, path, int(self._settings.max_upload_mb * MEGABYTE))
            return await self.track(self.with_lyrics(Track(audio, request.metadata), request), request.options)

    def check(self, request: FileRequest) -> None:
        """Raises what is wrong with the request whatever the file."""
        self.identifier.model.task.check(view_of(request.options))
        self.with_lyrics(Track(None, request.metadata), request)

    def with_lyrics(self, track: Track, request: FileRequest) -> Track:
        """The track with the lyrics that were given. Raises InvalidOption, InvalidMetadata, MetadataTooLong."""
        if request.lyrics is None:
            return track
        fields = further_fields(self.identifier.model)
        if LYRICS not in fields:
            raise InvalidOption("this release reads no lyrics")
        return replace(track, further=further_values({LYRICS: request.lyrics}, fields))

    async def track(self, track: Track, options: Options) -> Json:
        """Raises LridError; InternalError for what was not foreseen, which is logged."""
        model = self.identifier.model
        deadline = asyncio.get_running_loop().time() + self._settings.request_timeout_seconds
        try:
            found = await self.identifier.identify(track, identify_options(options, deadline))
            return build_response(found, model, options)
        except LridError:
            raise
        except Exception as error:
            log.exception("unforeseen error")
            raise InternalError(f"{type(error).__name__}; the log says why") from error


@asynccontextmanager
async def local_identifier(settings: Settings, *, listen: bool) -> AsyncIterator[LocalIdentifier]:
    """`listen=False` starts no decoder and prepares no device: for names alone. Raises ReleaseError."""
    release_folder(settings.model_store, settings.model)  # a wrong name is told before torch is imported
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


@asynccontextmanager
async def listener(settings: Settings, *, lyrics_from_tags: bool = False) -> AsyncIterator[Listen]:
    """Answers rows with audio in short, each by a call. Raises ReleaseError."""
    options = Options(top_k=2, lyrics_from_tags=lyrics_from_tags)
    async with local_identifier(settings, listen=True) as identifier:
        reads_lyrics = LYRICS in further_fields(identifier.identifier.model)

        def listen(row: Row) -> Awaitable[Json]:
            assert row.path is not None
            return identifier.file(row.path, FileRequest(row.metadata, options, row.lyrics if reads_lyrics else None))

        yield listen


async def identify_files(
    settings: Settings, files: Iterable[Found], request: FileRequest
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


async def identify_names(settings: Settings, request: FileRequest) -> FileAnswer:
    """Artist, album and title alone. Raises ReleaseError."""
    async with local_identifier(settings, listen=False) as identifier:
        try:
            identifier.check(request)
            track = identifier.with_lyrics(Track(None, request.metadata), request)
            return FileAnswer(None, await identifier.track(track, request.options), None)
        except LridError as error:
            return FileAnswer(None, None, error)


async def _answer(identifier: LocalIdentifier, found: Found, request: FileRequest) -> FileAnswer:
    try:
        if found.error is not None:
            raise found.error
        return FileAnswer(found.path, await identifier.file(found.path, request), None)
    except LridError as error:
        return FileAnswer(found.path, None, error)
