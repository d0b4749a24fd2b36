"""Identify files without a server, with the same identifier, batcher and decoders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.domain import Metadata, Track
from app.errors import AudioError, LridError, UploadTooLarge
from app.http.answer import build_response, identify_options, view_of
from app.http.schemas import IdentifyResponse, Options
from app.main import MEGABYTE, build_identifier, build_pool
from app.serving.identifier import Identifier
from app.serving.metrics import Metrics
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """The answer or error of one file."""

    path: Path
    response: IdentifyResponse | None
    error: LridError | None


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What to do with every file."""

    metadata: Metadata  # given by hand; if it is empty, the files' own tags are read
    options: Options


async def identify_files(
    settings: Settings, paths: Sequence[Path], request: FileRequest, on_answer: Callable[[FileAnswer], None]
) -> list[FileAnswer]:
    """Answers in the order of `paths`; `on_answer` is called as each is ready. Raises ReleaseError."""
    pool = build_pool(settings)
    await asyncio.to_thread(pool.start)
    identifier = None
    try:
        identifier = await build_identifier(settings, pool, Metrics(), settings.model)
        gate = asyncio.Semaphore(settings.decode_workers + 1)  # decode ahead of the device, but not by much

        async def one(path: Path) -> FileAnswer:
            async with gate:
                answer = await _identify(identifier, settings, path, request)
            on_answer(answer)
            return answer

        return await asyncio.gather(*(one(path) for path in paths))
    finally:
        if identifier is not None:
            await identifier.stop()
        await asyncio.to_thread(pool.close)


async def _identify(identifier: Identifier, settings: Settings, path: Path, request: FileRequest) -> FileAnswer:
    deadline = asyncio.get_running_loop().time() + settings.request_timeout_seconds
    model = identifier.model
    try:
        model.task.check(view_of(request.options))
        track = Track(_read(path, settings), request.metadata)
        found = await identifier.identify(track, identify_options(request.options, deadline))
        response = build_response(found, model, request.options)
    except LridError as error:
        return FileAnswer(path, None, error)
    return FileAnswer(path, IdentifyResponse.model_validate(response), None)


def _read(path: Path, settings: Settings) -> bytes:
    try:
        if path.stat().st_size > settings.max_upload_mb * MEGABYTE:
            raise UploadTooLarge(f"the file is larger than {settings.max_upload_mb:g} MB")
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadable(f"the file cannot be read: {error.strerror}") from error


class FileUnreadable(AudioError):
    """A file named on the command line cannot be read."""

    code, title = "file_unreadable", "The file cannot be read"
    remedy = "Check the path and its permissions."
