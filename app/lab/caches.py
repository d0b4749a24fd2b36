"""Keeps on disk what is computed once for a catalogue: decoded audio, features and text vectors. It may be deleted."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import FloatArray, Metadata, Reading
from app.errors import LridError
from app.lab.corpus.catalogue import Row
from app.lab.errors import CorpusError
from app.lab.progress import QUIET, Progress

Make = Callable[[Path], FloatArray]  # audio file → what is kept of it, such as mono samples
LIMITS = DecodeLimits(max_audio_seconds=3600.0, silence_dbfs=-60.0)
MAX_WINDOWS = 8  # of a long recording, as serving spreads them over the track
FULL_SCALE = 32_767  # int16
SAMPLED = 4096  # numbers at the beginning of an array, which its fingerprint is made of


class ArrayCache:
    """Keeps one array per audio file and reads slices of its memory map. A file that has changed is made anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[Path, Path] = {}  # by audio file

    def add(self, rows: Iterable[Row], make: Make) -> None:
        """Makes what is missing; what was made stays if a later row fails. Raises CorpusError naming the row."""
        for row in rows:
            assert row.path is not None
            place = self._folder / f"{stamp(row)}.npy"
            if not place.is_file():
                _write(place, self.stored(made(row, make)))
            self._places[row.path] = place

    def stored(self, array: FloatArray) -> npt.NDArray[np.generic]:
        """Converts an array to what is kept on disk."""
        return array

    def load(self, row: Row) -> npt.NDArray[np.generic]:
        """Maps the array of a row's file as it is on disk; call `add` first."""
        assert row.path is not None
        return np.load(self._places[row.path], mmap_mode="r")  # type: ignore[no-any-return]

    def length(self, row: Row) -> int:
        """Returns how many samples, or windows, are kept."""
        return len(self.load(row))

    def read(self, row: Row, start: int = 0, length: int | None = None) -> FloatArray:
        """Returns float32 from `start` on; to the end if `length` is None."""
        return np.array(self.load(row)[start : None if length is None else start + length], np.float32)

    def fingerprint(self, rows: Sequence[Row]) -> str:
        """Hashes the lengths and the first numbers of what is kept for these rows, in their order."""
        digest = hashlib.sha256()
        for row in rows:
            array = self.load(row)
            digest.update(f"{array.shape}".encode() + array[:SAMPLED].tobytes())
        return digest.hexdigest()[:16]


class Waveforms(ArrayCache):
    """Keeps decoded clips as int16; `read` returns float32 in [-1, 1]."""

    def stored(self, array: FloatArray) -> npt.NDArray[np.generic]:
        return (np.clip(array, -1, 1) * FULL_SCALE).astype(np.int16)

    def read(self, row: Row, start: int = 0, length: int | None = None) -> FloatArray:
        return super().read(row, start, length) * np.float32(1 / FULL_SCALE)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes the sounding part of a file as serving does: one stretch, or windows spread over a long track."""

    spec: WindowSpec
    max_windows: int = MAX_WINDOWS

    def __call__(self, path: Path) -> FloatArray:
        """Returns (n,) mono float32. Raises AudioError, and CorpusError when all of it is silent."""
        windows = load_recording(path, WindowRequest(self.spec, self.max_windows), LIMITS).windows
        if not windows:
            raise CorpusError("it is silent")
        rate_hz = self.spec.sample_rate_hz
        samples = np.concatenate([window.samples[: max(1, round(window.seconds * rate_hz))] for window in windows])
        if not np.isfinite(samples).all():
            raise CorpusError("it holds samples that are not finite")
        return samples


def stamp(row: Row) -> str:
    """Names the file as it is now: another size or time gives another name."""
    assert row.path is not None
    try:
        status = row.path.stat()
    except OSError as error:
        raise CorpusError(
            f"{row.where}: {row.path} cannot be opened ({error}); correct or drop the row. `lrid corpus check` names all"
        ) from error
    told = f"{row.path.resolve()} {status.st_size} {status.st_mtime_ns}"
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def made(row: Row, make: Make) -> FloatArray:
    """Calls `make` on a row's file. Raises CorpusError naming the row."""
    assert row.path is not None
    try:
        return make(row.path)
    except (OSError, ValueError, LridError, CorpusError) as error:
        raise CorpusError(
            f"{row.where}: {row.path} cannot be decoded ({str(error).rstrip('.')}); repair or drop the row. "
            "`lrid corpus check` names all such rows; what was decoded so far is kept"
        ) from error


def text_vectors(
    folder: Path,
    texts: Sequence[Metadata],
    reader: Callable[[Metadata], Reading],
    identity: str,
    progress: Progress = QUIET,
) -> FloatArray:
    """(n, n_features) of texts, kept in `folder` under the reader's `identity`; zeros without fields. Raises CorpusError."""
    told = "\0".join([identity, *(metadata.joined for metadata in texts)])
    place = folder / f"x_lang-{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.npy"
    if place.is_file():
        return np.load(place)  # type: ignore[no-any-return]
    nothing = np.zeros_like(reader(Metadata()).vector)
    counted = progress.each("reading metadata", texts)
    rows = [reader(metadata).vector if metadata.fields else nothing for metadata in counted]
    found = np.stack(rows) if rows else nothing[None][:0]
    _write(place, found)
    return found


def _write(place: Path, array: npt.NDArray[np.generic]) -> None:
    part = place.with_suffix(".part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, array)
        part.replace(place)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise CorpusError(f"{place} cannot be written ({error}); free some disk and run the same again") from error
