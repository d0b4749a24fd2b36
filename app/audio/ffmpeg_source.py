"""FFmpeg, through PyAV, as a source: MP4, WebM, ADTS and Ogg.

Ogg too, because FFmpeg decodes Vorbis 1.7 times and Opus 2.7 times as fast as libsndfile. Only the demuxer and the
decoders named here can run, and they see only the bytes: no protocol and no file can be reached.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np

from app.audio.mpeg import ADTS_BLOCK_SAMPLES, adts_frames, adts_rate_hz
from app.audio.source import downmix
from app.audio.spec import MAX_CHANNELS
from app.domain import FloatArray
from app.errors import AudioCorrupt, AudioError, AudioUnknownFormat

_DECODERS = (
    "aac,aac_latm,ac3,eac3,alac,flac,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,vorbis,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_u8,pcm_s8,"
    "pcm_alaw,pcm_mulaw"
)
_SAMPLE_FORMATS: Mapping[str, tuple[np.dtype[Any], float, float]] = {  # type, silence, full scale
    "u8": (np.dtype(np.uint8), 128.0, 2.0**7),
    "s16": (np.dtype(np.int16), 0.0, 2.0**15),
    "s32": (np.dtype(np.int32), 0.0, 2.0**31),
    "flt": (np.dtype(np.float32), 0.0, 1.0),
    "dbl": (np.dtype(np.float64), 0.0, 1.0),
}
_MAX_BAD_PACKETS = 8
_MAX_DEMUXED_STREAMS = 256  # more look like lack of memory to FFmpeg; the limit of the service is lower
_PREROLL_SECONDS = 0.1  # decoders with overlap or prediction settle in this time after a seek
_ADTS_PREROLL_FRAMES = 3


class FFmpegSource:
    """The first audio stream of a container."""

    def __init__(self, data: bytes, demuxer: str, max_streams: int) -> None:
        av.logging.set_level(av.logging.PANIC)  # FFmpeg would write to stderr
        options = {
            "protocol_whitelist": "none",
            "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,aac",
            "codec_whitelist": _DECODERS,
            "max_streams": str(_MAX_DEMUXED_STREAMS),
        }
        try:
            self._container = av.open(io.BytesIO(data), "r", format=demuxer, container_options=options)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError, OSError):
            raise AudioCorrupt("Expected a readable container; its headers cannot be parsed.") from None
        try:
            self._open_stream(max_streams)
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self, max_streams: int) -> None:
        if len(self._container.streams) > max_streams:
            raise AudioCorrupt(f"Expected at most {max_streams} streams in the container; more came.")
        if not self._container.streams.audio:
            raise AudioUnknownFormat("Expected an audio stream in the container; none came.")
        self._stream = self._container.streams.audio[0]
        context = self._stream.codec_context
        if context is None or context.name not in _DECODERS.split(","):  # the whitelist binds the demuxer's probing alone
            raise AudioUnknownFormat("Expected AAC, ALAC, MP3, Opus, Vorbis, FLAC or PCM in the container.")
        context.thread_count = 1
        self.sample_rate_hz: int = context.sample_rate
        self.channels: int = context.channels
        self.seconds: float | None = None
        self._time_base = self._stream.time_base or Fraction(1, 1_000_000)
        self._origin_seconds = float((self._stream.start_time or 0) * self._time_base)
        if self._stream.duration is not None:
            self.seconds = float(self._stream.duration * self._time_base)
        elif self._container.duration is not None:
            self.seconds = self._container.duration / 1e6

    def __enter__(self) -> FFmpegSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def blocks(self, start_seconds: float, stop_seconds: float) -> Iterator[FloatArray]:
        """By a seek to just before the start, then by the frames' own time stamps."""
        rate = self.sample_rate_hz
        left = round((stop_seconds - start_seconds) * rate)
        for at, mono in self._timed(start_seconds):
            first = max(round((start_seconds - at) * rate), 0)
            part = mono[first : first + left] if first < mono.size else mono[:0]
            if part.size:
                left -= part.size
                yield part
            if left <= 0 or at >= stop_seconds:
                return

    def _timed(self, start_seconds: float) -> Iterator[tuple[float, FloatArray]]:
        """(seconds at which it begins, mono block), from `start_seconds` or somewhat before."""
        target = max(start_seconds - _PREROLL_SECONDS, 0.0)
        self._seek(target + self._origin_seconds)
        at: float | None = 0.0 if target == 0 else None
        for frame in self._frames():
            if at is None:  # the first after a seek tells where we are; later ones follow on
                at = target if frame.time is None else frame.time - self._origin_seconds
            mono = _frame_to_mono(frame)
            yield at, mono
            at += mono.size / self.sample_rate_hz

    def _seek(self, seconds: float) -> None:
        try:
            self._container.seek(int(seconds / self._time_base), stream=self._stream)
        except av.FFmpegError:
            raise AudioCorrupt("Expected a container with a usable index; seeking in it failed.") from None

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decoded frames; a few damaged packets are skipped, as players do."""
        bad = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames: list[Any] = list(packet.decode())
                except av.error.InvalidDataError:
                    bad += 1
                    if bad > _MAX_BAD_PACKETS:
                        raise AudioCorrupt(f"More than {_MAX_BAD_PACKETS} packets cannot be decoded.") from None
                    continue
                for frame in frames:
                    if frame.sample_rate != self.sample_rate_hz:
                        raise AudioCorrupt("Expected one sample rate throughout; it changes within the stream.")
                    yield frame
        except (AudioError, MemoryError):
            raise
        except (av.FFmpegError, ValueError, OSError):
            raise AudioCorrupt("Expected a whole audio stream; it breaks off in damaged data.") from None


class AdtsSource:
    """AAC frames without a container. FFmpeg guesses when it seeks in them; we know where each begins."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offsets, self._blocks = adts_frames(data)
        self._block_seconds = ADTS_BLOCK_SAMPLES / adts_rate_hz(data)
        with FFmpegSource(data[: self._offsets[min(64, len(self._offsets) - 1)]], "aac", 1) as head:
            self.sample_rate_hz = head.sample_rate_hz
            self.channels = head.channels
        self.seconds: float | None = self._blocks[-1] * self._block_seconds

    def __enter__(self) -> AdtsSource:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open between calls."""

    def blocks(self, start_seconds: float, stop_seconds: float) -> Iterator[FloatArray]:
        first = bisect_right(self._blocks, start_seconds / self._block_seconds) - 1 - _ADTS_PREROLL_FRAMES
        first = min(max(first, 0), len(self._offsets) - 2)
        began = self._blocks[first] * self._block_seconds
        with FFmpegSource(self._data[self._offsets[first] :], "aac", 1) as source:
            yield from source.blocks(start_seconds - began, stop_seconds - began)


def _frame_to_mono(frame: av.AudioFrame) -> FloatArray:
    """Any sample format and layout of FFmpeg → (n,) float32, full scale 1.0.

    `AudioFrame.to_ndarray` would read beyond the eighth of eight planes (PyAV 18.1), and crash.
    """
    channels, (dtype, zero, scale) = frame.layout.nb_channels, _sample_format(frame)
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioCorrupt(f"Expected 1 to {MAX_CHANNELS} channels throughout; the stream changes to {channels}.")
    if not frame.format.is_planar:
        packed: Any = np.frombuffer(frame.planes[0], dtype, frame.samples * channels)  # type: ignore[call-overload]
        mono = downmix(packed.reshape(-1, channels).astype(np.float32))
    else:
        first, *others = (
            np.frombuffer(plane, dtype, frame.samples)  # type: ignore[call-overload]
            for plane in frame.planes[:channels]
        )
        mono = first.astype(np.float32)
        for other in others:
            mono += other
        mono *= np.float32(1 / channels)
    return mono if scale == 1.0 else (mono - np.float32(zero)) * np.float32(1 / scale)


def _sample_format(frame: av.AudioFrame) -> tuple[np.dtype[Any], float, float]:
    """Type, value of silence and full scale of the frame's samples."""
    kind = frame.format.name.removesuffix("p")
    if kind not in _SAMPLE_FORMATS:
        raise AudioCorrupt(f"Expected samples of a common format; {kind} came.")
    return _SAMPLE_FORMATS[kind]
