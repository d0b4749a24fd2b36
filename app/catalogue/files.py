"""Audio files in folders, and names of files as text."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.catalogue.errors import FileUnreadable, FolderUnreadable, LinkCircle
from app.errors import LridError, UploadTooLarge
from app.settings import MEGABYTE

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aifc", ".aiff", ".alac", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv", ".mp2"}
    | {".mp3", ".mp4", ".mpga", ".oga", ".ogg", ".opus", ".w64", ".wav", ".wave", ".webm"}
)


@dataclass(frozen=True, slots=True)
class Found:
    """A file, or a place that cannot be walked and why."""

    path: Path
    error: LridError | None = None


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """The answer (as IdentifyResponse) or error of one file; no path for names alone."""

    path: Path | None
    answer: dict[str, Any] | None
    error: LridError | None


def find_files(path: Path) -> Iterator[Found]:
    """A file is itself, whatever its name; a folder is the audio files below it, sorted, each real folder once."""
    if os.path.isdir(path):  # Path.is_dir raises where the name is longer than any file's
        yield from _walk(path, set())
    else:
        yield Found(path)


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Found]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            yield Found(folder, LinkCircle("its files are answered where it was walked first"))
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        yield Found(folder, FolderUnreadable(f"the folder cannot be listed: {error.strerror}"))
        return
    for name in names:
        if name.startswith("."):
            continue  # hidden files: other programs' own, copies that are being written
        inner = folder / name
        if inner.is_dir():
            yield from _walk(inner, seen)
        elif inner.suffix.lower() in AUDIO_SUFFIXES:
            yield Found(inner)


def read_file(path: Path, most_bytes: int) -> bytes:
    """Raises FileUnreadable, UploadTooLarge."""
    try:
        if not path.is_file() and path.exists():
            raise FileUnreadable("it is no regular file")
        if path.stat().st_size > most_bytes:
            raise UploadTooLarge(f"the file is larger than {most_bytes / MEGABYTE:g} MB")
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadable(f"the file cannot be read: {error.strerror}") from error
    except ValueError as error:  # NUL in a path
        raise FileUnreadable(f"no file can have this name: {error}") from error


def printable(text: str | Path) -> str:
    """The text as UTF-8 that is safe to print: invalid bytes and control characters are escaped."""
    whole = str(text).encode("utf-8", "surrogateescape" if isinstance(text, Path) else "backslashreplace")
    decoded = whole.decode("utf-8", "backslashreplace")
    if decoded.isprintable():
        return decoded
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in decoded)
