"""libsndfile as a source: WAV, AIFF, FLAC and MP3, with seeks that are exact to the sample."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import soundfile

from app.audio.claim import Claim
from app.audio.source import downmix
from app.domain import FloatArray
from app.errors import AudioCorrupt, AudioError, AudioTruncated

_BLOCK_FRAMES = 1 << 17  # after each block soundfile seeks to where it is, which costs MP3 some frames
_OUT_OF_MEMORY = 17  # SFE_MALLOC_FAILED


class SoundFileSource:
    """A file that libsndfile reads."""

    def __init__(self, data: bytes, claim: Claim) -> None:
        self._bytes = io.BytesIO(data)
        self._size = len(data)
        try:
            self._file = soundfile.SoundFile(self._bytes)
        except soundfile.LibsndfileError as error:
            raise _error(error) from None
        self.sample_rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self._exact = claim.format != "MP3"  # of MP3 the padding at the end is not decoded
        unknown = claim.seconds is None and claim.format == "FLAC"  # shows as a very large number
        self._frames: int | None = None if unknown else self._file.frames
        self.seconds: float | None = None if self._frames is None else self._frames / self.sample_rate_hz

    def __enter__(self) -> SoundFileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def blocks(self, start_seconds: float, stop_seconds: float) -> Iterator[FloatArray]:
        try:
            yield from self._blocks(round(start_seconds * self.sample_rate_hz), round(stop_seconds * self.sample_rate_hz))
        except soundfile.LibsndfileError as error:
            if self._exact and self._bytes.tell() >= self._size:  # a FLAC cut within a frame
                raise AudioTruncated("Expected a whole last frame; the file ends within it.") from None
            raise _error(error) from None

    def _blocks(self, at: int, stop: int) -> Iterator[FloatArray]:
        stop = stop if self._frames is None else min(stop, self._frames)
        if self._file.tell() != at:
            self._file.seek(at)
        buffer = np.empty((_BLOCK_FRAMES, self.channels), np.float32)
        while at < stop:
            wanted = min(_BLOCK_FRAMES, stop - at)
            block = self._file.read(out=buffer[:wanted])
            if len(block):
                yield downmix(block)
            at += len(block)
            if len(block) < wanted:
                if self._frames is not None and self._exact:
                    raise AudioTruncated(f"Expected {self._frames} sample frames; {at} came.")
                return


def _error(error: soundfile.LibsndfileError) -> AudioError | MemoryError:
    if error.code == _OUT_OF_MEMORY:
        return MemoryError()
    return AudioCorrupt(f"The decoder gave up on the data (libsndfile error {error.code}).")
