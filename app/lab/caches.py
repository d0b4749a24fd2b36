"""What is computed once for a corpus and kept on disk: decoded audio, features, and text vectors. May be deleted.

Audio is one flat file of numbers and an index with one JSON line a clip. A line is written after its numbers, so a killed
run or a full disk loses at most the clip that was being decoded; what was begun and not finished is cut off the next time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import FloatArray, Metadata
from app.errors import LridError
from app.families.lrid_net.read import LangdetectReader
from app.lab.corpus.catalogue import Row
from app.lab.errors import CorpusError
from app.lab.progress import Advance

Decode = Callable[[Path], FloatArray]  # file → what is kept of it, such as mono float32 samples
FULL_SCALE = 32_767  # int16
CHECK = "`lrid corpus check` names all such rows; what was decoded so far is kept"
LIMITS = DecodeLimits(max_audio_seconds=3600.0, silence_dbfs=-60.0)
MAX_WINDOWS = 8  # of a long recording, as serving spreads them over the track


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a clip stands, in units of the cache's width, and what it is."""

    offset: int
    length: int
    stamp: str  # size and time of the file
    crc32: int | None  # of the numbers; None where an earlier version wrote none


class FlatCache:
    """Arrays of one width by path, one after the other in a file; reads are slices of a memory map."""

    def __init__(self, folder: Path, name: str, dtype: type[np.generic], width: int = 1) -> None:
        """Opens or starts a cache in `folder`. Raises CorpusError if that cannot be written."""
        self._data_path, self._index_path = folder / name, folder / "index.jsonl"
        self._dtype, self._width = np.dtype(dtype), width
        self._index: dict[str, Entry] = {}  # by path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._data_path.touch()
            self._index_path.touch()
            self._read_index()
        except OSError as error:
            raise CorpusError(f"{folder} cannot be written ({error}); free some disk or choose another place") from error
        self._data = self._map()

    def _read_index(self) -> tuple[int, int]:
        """Up to where a killed run stopped; returns the bytes of the index and the units of the data that are whole."""
        whole, end = 0, 0
        with self._index_path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                entry = json.loads(line)
                whole, end = whole + len(line), max(end, entry["offset"] + entry["length"])
                found = Entry(entry["offset"], entry["length"], entry["stamp"], entry.get("crc32"))
                self._index[entry["path"]] = found
        return whole, end

    @property
    def _unit_bytes(self) -> int:
        return self._width * self._dtype.itemsize

    def _map(self) -> npt.NDArray[Any]:
        units = self._data_path.stat().st_size // self._unit_bytes
        if not units:
            return np.zeros((0, self._width), self._dtype)
        return np.memmap(self._data_path, self._dtype, mode="r", shape=(units, self._width))

    def _add(self, rows: Sequence[Row], make: Callable[[Row], npt.NDArray[Any]], progress: Advance) -> None:
        """Makes what is missing or whose file has changed. Raises CorpusError."""
        try:
            with self._data_path.open("ab") as data, self._index_path.open("ab") as index:
                fcntl.flock(index, fcntl.LOCK_EX)  # one training at a time adds to a cache
                whole, offset = self._read_index()
                index.truncate(whole)
                data.truncate(offset * self._unit_bytes)
                for row in rows:
                    key, stamp = _key(row), _stamp(row)
                    progress(1)
                    if (known := self._index.get(key)) and known.stamp == stamp and known.crc32 is not None:
                        continue
                    made = make(row)
                    content = made.astype(self._dtype).tobytes()
                    data.write(content)
                    data.flush()
                    self._index[key] = entry = Entry(offset, len(made), stamp, zlib.crc32(content))
                    index.write((json.dumps({"path": key} | asdict(entry), ensure_ascii=False) + "\n").encode())
                    index.flush()
                    offset += len(made)
        except OSError as error:
            raise CorpusError(
                f"{self._data_path} cannot be written ({error}); free some disk and run the same again: clips are kept"
            ) from error
        self._data = self._map()

    def fingerprint(self, rows: Sequence[Row]) -> str:
        """Of what is kept for these rows, in their order."""
        entries = [self._index[_key(row)] for row in rows]
        return hashlib.sha256(json.dumps([(e.length, e.crc32) for e in entries]).encode()).hexdigest()[:16]

    def _length(self, row: Row) -> int:
        return self._index[_key(row)].length

    def _read(self, row: Row, start: int, length: int | None) -> npt.NDArray[Any]:
        entry = self._index[_key(row)]
        stop = entry.offset + (entry.length if length is None else min(entry.length, start + length))
        return self._data[entry.offset + start : stop]


class Waveforms(FlatCache):
    """Decoded clips by path, int16 at the network's rate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "samples.i16", np.int16)

    def add(self, rows: Sequence[Row], decode: Decode, progress: Advance = lambda n: None) -> None:
        """Decodes what is missing or has changed. Raises CorpusError naming the row whose audio is missing or broken."""
        self._add(rows, lambda row: (np.clip(made(row, decode), -1, 1) * FULL_SCALE)[:, None], progress)

    def length(self, row: Row) -> int:
        """Samples of a row's clip."""
        return self._length(row)

    def read(self, row: Row, start: int = 0, length: int | None = None) -> FloatArray:
        """(length,) float32 in [-1, 1] from sample `start`; to the end if `length` is None."""
        return self._read(row, start, length)[:, 0].astype(np.float32) * np.float32(1 / FULL_SCALE)


class Features(FlatCache):
    """What a listener makes of a file's windows, in plan order; no rows for a file that is silent."""

    def __init__(self, folder: Path, n_features: int) -> None:
        super().__init__(folder, "features.f32", np.float32, n_features)

    def add(self, rows: Sequence[Row], listen: Decode, progress: Advance = lambda n: None) -> None:
        """As `Waveforms.add`; `listen`: file → (n_windows, n_features)."""
        self._add(rows, lambda row: made(row, listen), progress)

    def read(self, row: Row) -> FloatArray:
        """(n_windows, n_features) of a row's file."""
        return np.array(self._read(row, 0, None))


class Decoder:
    """File → the sounding part of a track as serving decodes it: one stretch, or windows spread over a long one."""

    def __init__(self, spec: WindowSpec, max_windows: int = MAX_WINDOWS) -> None:
        self._request = WindowRequest(spec, max_windows)

    def __call__(self, path: Path) -> FloatArray:
        """(n,) mono float32. Raises AudioError, and CorpusError when all of it is silent."""
        windows = load_recording(path, self._request, LIMITS).windows
        if not windows:
            raise CorpusError("it is silent")
        rate = self._request.spec.sample_rate_hz
        samples = np.concatenate([window.samples[: max(1, round(window.seconds * rate))] for window in windows])
        if not np.isfinite(samples).all():
            raise CorpusError("it holds samples that are not finite")
        return samples


def _key(row: Row) -> str:
    assert row.path is not None
    return str(row.path.resolve())


def _stamp(row: Row) -> str:
    assert row.path is not None
    try:
        status = row.path.stat()
    except OSError as error:
        raise CorpusError(
            f"line {row.line}: {row.path} cannot be opened ({error}); correct or drop the row. {CHECK}"
        ) from error
    return f"{status.st_size}-{status.st_mtime_ns}"


def made(row: Row, make: Decode) -> FloatArray:
    """What `make` makes of a row's file. Raises CorpusError naming the row."""
    assert row.path is not None
    try:
        return make(row.path)
    except (OSError, ValueError, LridError, CorpusError) as error:
        raise CorpusError(
            f"line {row.line}: {row.path} cannot be decoded ({error}); repair or drop the row. {CHECK}"
        ) from error


class TextVectors:
    """x_lang of metadata, kept by text: langdetect takes milliseconds a text, a corpus has many."""

    def __init__(self, path: Path, reader: LangdetectReader, fingerprint: str) -> None:
        """`fingerprint` names everything the vectors depend on (languages, seed); another one starts afresh."""
        self._path = path.with_name(f"{path.name}-{hashlib.sha256(fingerprint.encode()).hexdigest()[:12]}.npz")
        self._reader = reader
        self._vectors: dict[bytes, FloatArray] = {}
        if self._path.is_file():
            with np.load(self._path) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
            self._vectors = {bytes(key): vector for key, vector in zip(keys, vectors, strict=True)}

    def __call__(self, texts: Iterable[Metadata], progress: Advance = lambda n: None) -> FloatArray:
        """(n, 56) float32, one row a text; zeros (missing) for metadata without any field."""
        rows, before = [], len(self._vectors)
        for metadata in texts:
            rows.append(self._vector(metadata))
            progress(1)
            if len(self._vectors) - before >= 10_000:  # half a minute's work: not to be lost
                self._save()
                before = len(self._vectors)
        if len(self._vectors) > before:
            self._save()
        return np.stack(rows) if rows else np.zeros((0, self._reader.n_features), np.float32)

    def _vector(self, metadata: Metadata) -> FloatArray:
        if not metadata.fields:
            return np.zeros(self._reader.n_features, np.float32)
        key = hashlib.sha256(metadata.joined.encode("utf-8", "surrogatepass")).digest()
        if key not in self._vectors:
            self._vectors[key] = self._reader(metadata).vector
        return self._vectors[key]

    def _save(self) -> None:
        temporary = self._path.with_suffix(".part.npz")
        keys = np.frombuffer(b"".join(self._vectors), np.uint8).reshape(-1, 32)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(temporary, keys=keys, vectors=np.stack(list(self._vectors.values())))
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CorpusError(f"{self._path} cannot be written ({error}); free some disk and run the same again") from error
