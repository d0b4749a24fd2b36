"""Files changed so that a crash leaves whole ones, and so that every change can be taken back to the byte.

The new file is made beside the old one and takes its place at once, after the undo file holds the bytes that differ.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from app.catalogue.errors import TagRefused, UndoUnreadable
from app.catalogue.files import printable
from app.errors import LridError


def rewrite(path: Path, change: Callable[[Path], None], undo: Path) -> None:
    """`change` gets a copy to work on. Raises TagRefused where the file cannot be changed, or its audio would be."""
    path = path.resolve()  # the file, not a link to it
    with _copy_of(path) as copy:
        try:
            change(copy)
        except OSError as error:
            raise TagRefused(f"the file cannot be written: {error.strerror}") from error
        except Exception as error:  # mutagen's, of many kinds
            raise TagRefused(f"the tag cannot be written: {error}") from error
        if audio_digest(copy) != audio_digest(path):
            raise TagRefused("the audio would not be the same afterwards")
        record = _difference(path, copy)
        _append(undo, record)
        _replace(copy, path)


def undo_all(undo: Path) -> Iterator[tuple[Path, LridError | None]]:
    """Take back every change, the last one first; a file that has changed since is left alone. Raises UndoUnreadable."""
    for record in reversed(_records(undo)):
        path = undo
        try:
            path = Path(os.fsdecode(base64.b64decode(record["path"])))
            _restore(path, record)
        except LridError as error:
            yield path, error
        except OSError as error:
            yield path, TagRefused(f"the file cannot be written: {error.strerror}")
        except (KeyError, TypeError, ValueError, zlib.error):
            yield path, TagRefused("its line in the undo file is of another form")
        else:
            yield path, None


def _records(undo: Path) -> list[dict[str, Any]]:
    """A line that a crash or a full disk has cut off is left out: its file was not changed. Raises UndoUnreadable."""
    found: list[dict[str, Any]] = []
    try:
        lines = undo.read_bytes().splitlines()
    except OSError as error:
        raise UndoUnreadable(f"{printable(undo)} cannot be read: {error.strerror}") from error
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            record = json.loads(line)
            found += [record] if "path" in record and isinstance(record, dict) else []
    if lines and not found:
        raise UndoUnreadable(f"{printable(undo)} is no undo file")
    return found


def audio_digest(path: Path) -> str:
    """SHA-256 of the encoded audio alone. Raises TagRefused."""
    import av

    found = hashlib.sha256()
    try:
        name = os.fsencode(path).decode("utf-8", "surrogateescape")
        with av.open(name, options={"protocol_whitelist": "file"}) as container:  # a playlist would name addresses
            for packet in container.demux(container.streams.audio[0]):
                found.update(bytes(packet))
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise TagRefused(f"the audio cannot be read: {error}") from error
    return found.hexdigest()


def check_writable(path: Path) -> None:
    """What `rewrite` needs: rights to the file, and to its folder for the copy. Raises TagRefused."""
    path = path.resolve()
    try:
        if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
            raise TagRefused("the file is read-only")
    except OSError as error:
        raise TagRefused(f"the file cannot be written: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise TagRefused("the folder of the file is read-only")


@contextlib.contextmanager
def _copy_of(path: Path) -> Iterator[Path]:
    """Give a hidden copy beside the file, which is gone afterwards unless it has taken its place. Raises TagRefused."""
    check_writable(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".lrid-", dir=path.parent) as folder:  # where nobody else can lay a link
            copy = Path(folder, path.name)
            shutil.copyfile(path, copy)
            yield copy
    except OSError as error:
        raise TagRefused(f"the file cannot be copied or replaced: {error.strerror}") from error


def _difference(old: Path, new: Path) -> dict[str, Any]:
    """What takes `new` back to `old`: the bytes between what both begin with and what is as long in both, and in the latter
    which bits differ. In an Ogg file these are in the number and the checksum of every page.
    """
    before, after = old.read_bytes(), new.read_bytes()
    start = _common(before, after)
    tail = min(len(before), len(after)) - start
    base = len(before) - tail
    return {
        "path": base64.b64encode(os.fsencode(old)).decode(),  # names need not be UTF-8
        "start": start,
        "tail": tail,
        "bytes": _packed(before[start:base]),
        "bits": _packed(_xor(before[base:], after[len(after) - tail :]).rstrip(b"\0")),  # mostly zeros, which pack well
        "before": _sha256(before),
        "after": _sha256(after),
        "mtime_ns": old.stat().st_mtime_ns,
    }


def _xor(a: bytes, b: bytes) -> bytes:
    return (np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).tobytes()


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _common(a: bytes, b: bytes) -> int:
    """Length of the beginning that both have."""
    length = min(len(a), len(b))
    differs = np.frombuffer(a, np.uint8, length) != np.frombuffer(b, np.uint8, length)
    return int(differs.argmax()) if differs.any() else length


def _restore(path: Path, record: dict[str, Any]) -> None:
    if path.exists() and not path.is_file():  # a device would be read without end
        raise TagRefused("it is no regular file")
    now = path.read_bytes()
    if _sha256(now) == record["before"]:
        return
    if _sha256(now) != record["after"]:
        raise TagRefused("the file has changed since")
    tail, bits = now[len(now) - record["tail"] :], _unpacked(record["bits"])  # the reverse of `_difference`
    before = now[: record["start"]] + _unpacked(record["bytes"]) + _xor(tail[: len(bits)], bits) + tail[len(bits) :]
    if _sha256(before) != record["before"]:
        raise TagRefused("the undo file does not fit this file")
    with _copy_of(path) as copy:
        copy.write_bytes(before)
        if audio_digest(copy) != audio_digest(path):  # an undo file that somebody else made could change any file
            raise TagRefused("the audio would not be the same afterwards")
        _replace(copy, path)
    os.utime(path, ns=(record["mtime_ns"], record["mtime_ns"]))


def _append(undo: Path, record: dict[str, Any]) -> None:
    """Note a change, on the disk before the file is replaced. Raises TagRefused, UndoUnreadable."""
    try:
        with undo.open("a+b") as file:
            end = file.tell()
            file.seek(0)
            if file.read(1) not in {b"", b"{"}:
                raise UndoUnreadable(f"{printable(undo)} is no undo file; nothing was added to it")
            file.seek(max(0, end - 1))
            begin = b"" if file.read(1) in {b"", b"\n"} else b"\n"  # a line was cut off
            file.write(begin + json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise TagRefused(f"the undo file cannot be written: {error.strerror}") from error


def _replace(copy: Path, path: Path) -> None:
    """Put the copy in the place of the file, whole or not at all, with the rights and owner of the old one."""
    status = path.stat()
    os.chmod(copy, status.st_mode)
    with contextlib.suppress(OSError):  # only root may give files away
        os.chown(copy, status.st_uid, status.st_gid)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    copy.replace(path)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
