"""What is computed once for a corpus and kept on disk: decoded audio and text vectors. Both caches may be deleted.

Audio is one flat file of int16 samples at the network's rate and an index with one JSON line a clip. A line is written
after its samples, so a killed run loses at most the clip it was decoding.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain import FloatArray, Metadata
from app.families.lrid_net.read import LangdetectReader
from app.training.corpus import Row
from app.training.errors import CorpusError

Progress = Callable[[int], None]  # called with how many items have just been done
Decode = Callable[[Path], FloatArray]  # file → mono float32 samples at the network's rate
FULL_SCALE = 32_767  # int16


class Waveforms:
    """Decoded clips by path; reads are slices of a memory map."""

    def __init__(self, folder: Path) -> None:
        """Opens or starts a cache in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._data_path = folder / "samples.i16"
        self._index_path = folder / "index.jsonl"
        self._data_path.touch()
        self._index: dict[str, tuple[int, int, str]] = {}  # path → offset, length (samples), stamp of the file
        if self._index_path.is_file():
            for line in self._index_path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self._index[entry["path"]] = (entry["offset"], entry["length"], entry["stamp"])
        self._data = self._map()

    def _map(self) -> npt.NDArray[np.int16]:
        if self._data_path.stat().st_size < 2:
            return np.zeros(0, np.int16)
        return np.memmap(self._data_path, np.int16, mode="r")

    def add(self, rows: Sequence[Row], decode: Decode, progress: Progress = lambda n: None) -> None:
        """Decodes what is missing or has changed. Raises CorpusError naming the row whose audio is missing or broken."""
        with self._data_path.open("ab") as data, self._index_path.open("a", encoding="utf-8") as index:
            offset = data.seek(0, os.SEEK_END) // 2
            for row in rows:
                assert row.path is not None
                key, stamp = str(row.path.resolve()), _stamp(row)
                progress(1)
                if self._index.get(key, (0, 0, ""))[2] == stamp:
                    continue
                samples = _decode(row, decode)
                data.write((np.clip(samples, -1, 1) * FULL_SCALE).astype(np.int16).tobytes())
                data.flush()
                self._index[key] = (offset, len(samples), stamp)
                entry = {"path": key, "offset": offset, "length": len(samples), "stamp": stamp}
                index.write(json.dumps(entry, ensure_ascii=False) + "\n")
                index.flush()
                offset += len(samples)
        self._data = self._map()

    def length(self, row: Row) -> int:
        """Samples of a row's clip."""
        return self._index[str(row.path.resolve())][1]  # type: ignore[union-attr]

    def read(self, row: Row, start: int = 0, length: int | None = None) -> FloatArray:
        """(length,) float32 in [-1, 1] from sample `start`; to the end if `length` is None."""
        offset, whole, _ = self._index[str(row.path.resolve())]  # type: ignore[union-attr]
        stop = offset + (whole if length is None else min(whole, start + length))
        return self._data[offset + start : stop].astype(np.float32) * np.float32(1 / FULL_SCALE)


def _stamp(row: Row) -> str:
    assert row.path is not None
    try:
        status = row.path.stat()
    except OSError as error:
        raise CorpusError(f"line {row.line}: {row.path} cannot be opened ({error}); correct or drop the row") from error
    return f"{status.st_size}-{status.st_mtime_ns}"


def _decode(row: Row, decode: Decode) -> FloatArray:
    assert row.path is not None
    try:
        samples = decode(row.path)
    except Exception as error:
        raise CorpusError(f"line {row.line}: {row.path} cannot be decoded ({error}); repair or drop the row") from error
    if not len(samples) or not np.isfinite(samples).all():
        raise CorpusError(f"line {row.line}: {row.path} holds no finite samples; repair or drop the row")
    return samples


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

    def __call__(self, texts: Iterable[Metadata], progress: Progress = lambda n: None) -> FloatArray:
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".part.npz")
        keys = np.frombuffer(b"".join(self._vectors), np.uint8).reshape(-1, 32)
        np.savez_compressed(temporary, keys=keys, vectors=np.stack(list(self._vectors.values())))
        temporary.replace(self._path)
