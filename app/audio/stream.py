"""The first audio stream of an encoded file, through FFmpeg: its packets, where each begins, and what they decode to.

All packets are read before anything is decoded (milliseconds for a song): their durations give the length of the track,
whatever its headers say. Decoding may then begin at any packet.
"""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from app.audio.container import checked_codec, open_container, sound_streams
from app.audio.ends import mended, next_link
from app.audio.mono import is_readable, to_mono
from app.audio.mpeg import frame_at
from app.audio.sniff import Found
from app.audio.spec import DecodeLimits
from app.audio.timeline import measure
from app.domain import FloatArray
from app.errors import AudioTooLong

_PLAIN = ("aiff", "au", "caf", "w64", "wav")  # demuxers whose packets of PCM are the file's own bytes
_WHOLE_FRAMES = ("mlp", "truehd")  # demuxers that leave out a last frame that is not whole
_LAST_FRAMES = 16  # of PCM, that FFmpeg reads to see whether it ends where the header says
_PACKET_FRAMES = 1 << 17  # of PCM that is cut out of the file
_WARM_UP_PACKETS = 12  # MP3 looks back up to 511 bytes, AAC and Opus over two to four packets
_WARM_UP_SECONDS = 1.0  # at most; a packet of WAV may last longer than all of them should
_BLOCK_SAMPLES = 1 << 16  # of each channel: frames are mixed down in blocks, which is several times faster
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"Speex   ")  # between or behind frames: no damage
_REST_BYTES = 1 << 14  # so much of what follows the last packet is looked at
_OFF_COURSE_SECONDS = 0.3
_LONG_PACKET_SECONDS = 0.25


class Stream:
    """Packets and decoder.

    `bad`: indices of incomplete packets, and of those that failed to decode so far.
    """

    def __init__(self, data: bytes, found: Found, limits: DecodeLimits) -> None:
        """Raises AudioCorrupt, AudioTruncated, AudioUnknownFormat, AudioParameters, AudioTooLong."""
        self._file, self._found = mended(data, found), found
        self.packets: list[Any] = []  # av.Packet; of PCM views of the file
        self.gaps: tuple[int, ...] = ()
        self.chained = False
        self.next_start = 0  # first byte of a file that was joined to this one, which FFmpeg does not go on to
        self.goes_on = False  # more joined files follow than are read
        self.end = 0  # the byte behind the last packet, counted from `found.start`
        self._silence_peak = limits.silence_peak
        self.bad: set[int] = set()
        self.off_course = False  # decoding gave another length than the packets promised
        self._container = open_container(self._file, found)
        try:
            for stream in sound_streams(self._container, limits.max_streams):
                self._stream, self._codec = stream, checked_codec(stream)
                self.codec, self.sample_rate_hz = str(self._codec.name), int(self._codec.sample_rate)
                self._demux(limits.max_audio_seconds)
                if self.packets:
                    break
                with contextlib.suppress(av.FFmpegError):
                    self._container.seek(0)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _demux(self, max_seconds: float) -> None:
        """Fill `packets`, and `starts`: seconds at which each begins, and last the length of the track."""
        base = self._stream.time_base or Fraction(1, 1_000_000)
        ticks, bound = 0, (max_seconds + 1.0) / base
        try:
            if not self._cut_plain_pcm():
                for packet in self._read():
                    if packet.size:
                        self.packets.append(packet)
                        ticks += packet.duration or 0
                    if ticks > bound:
                        raise _too_long(max_seconds)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError, OSError):  # what came until here can be heard
            self.bad.add(len(self.packets))
        if not self.end:
            corrupt = [index for index, packet in enumerate(self.packets) if packet.is_corrupt]
            # FFmpeg reads WAV by half a MiB: where one is not whole, all frames in it count as damaged.
            self.bad |= set(corrupt[-1:] if self._found.format == "WAV" else corrupt)
            timeline = measure(self.packets, float(base), self.sample_rate_hz, self.codec)
            self.starts, self.gaps = timeline.starts, timeline.gaps
            self.chained = timeline.chained or self._changes_rate()
            if self.packets:
                self.end = (self.packets[-1].pos or 0) + self.packets[-1].size
                self._measure_last()
        self._go_on()
        if self.seconds > max_seconds:
            raise _too_long(max_seconds)

    def _measure_last(self) -> None:
        """Decode a long last packet: Matroska gives it the duration of the others."""
        last = len(self.packets) - 1
        if self._found.demuxer == "matroska" and self.starts[-1] - self.starts[-2] > _LONG_PACKET_SECONDS:
            seconds = sum(frame.samples / frame.sample_rate for frame in self._frames(last, last + 1))
            self.starts[-1] = min(self.starts[-1], self.starts[-2] + (seconds or math.inf))

    def _read(self) -> Iterator[av.Packet[Any]]:
        while True:
            try:
                yield from self._container.demux(self._stream)
            except IndexError:  # PyAV does not know a stream that shows up late
                continue
            return

    def _go_on(self) -> None:
        """Look at what follows the last packet: another file, or nothing but tags and zeros, which are no damage."""
        if link := next_link(self._file, self.end, self._found):
            self.next_start, self.chained = self._found.start + link, True
        if link or _is_padding(self._file[self.end : self.end + _REST_BYTES]):
            self.bad.discard(len(self.packets))
        elif self._found.demuxer in _WHOLE_FRAMES:
            self.bad.add(len(self.packets))

    def _cut_plain_pcm(self) -> bool:
        """Whether the file ends its PCM where the header says; then its packets are cut out of it, not read and copied."""
        frames = self._stream.duration or 0
        plain = self._container.format.name in _PLAIN and self.codec.startswith("pcm_")
        if not plain or self._stream.time_base != Fraction(1, self.sample_rate_hz):
            return False
        first = next(self._container.demux(self._stream))
        frame_bytes = first.size // (first.duration or first.size + 1)
        end = (first.pos or 0) + frames * frame_bytes
        self._container.seek(max(frames - _LAST_FRAMES, 0), stream=self._stream)
        tail = [packet for packet in self._container.demux(self._stream) if packet.size]
        if not frame_bytes or not tail or tail[-1].pos + tail[-1].size != end or tail[-1].is_corrupt:
            self._container.seek(0, stream=self._stream)
            return False
        self.end = end
        step, view = _PACKET_FRAMES * frame_bytes, memoryview(self._file)
        self.packets = [view[at : min(at + step, end)] for at in range(first.pos, end, step)]
        sizes = [len(packet) for packet in self.packets]
        self.starts = np.cumsum([0, *sizes]) / (frame_bytes * self.sample_rate_hz)
        return True

    def _changes_rate(self) -> bool:
        """Whether the last ADTS frame has another rate than the first; FFmpeg's durations leave that out."""
        ends = [frame_at(bytes(self.packets[at]), 0) for at in (0, -1)] if self._found.demuxer == "aac" else []
        return len({end.kind for end in ends if end is not None}) > 1

    @property
    def seconds(self) -> float:
        """Length of the track by its packets; 0 if they do not say."""
        return round(float(self.starts[-1]), 6)

    @property
    def promised_seconds(self) -> float | None:
        """Length by the container's headers, or FFmpeg's estimate; at most a hint."""
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1e6 if self._container.duration else None

    @property
    def clock_seconds(self) -> float | None:
        """End of the last packet by its time stamp."""
        last = self.packets[-1]
        known = isinstance(last, av.Packet) and last.pts is not None
        return float((last.pts + (last.duration or 0)) * self._stream.time_base) if known else None

    def gap_seconds(self, index: int) -> float:
        """How much later than the end of the packet before a packet begins by its time stamp."""
        before, packet = self.packets[index - 1], self.packets[index]
        if before.pts is None or packet.pts is None:
            return 0.0
        ends = before.pts + round((self.starts[index] - self.starts[index - 1]) / packet.time_base)
        return float((packet.pts - ends) * packet.time_base)

    @property
    def metadata(self) -> dict[str, str]:
        """The container's own tags as FFmpeg reads them, names in lower case."""
        both = (*self._stream.metadata.items(), *self._container.metadata.items())
        named = {name.lower(): value for name, value in both}
        if self._found.format in ("WebM", "MP4") and "title" not in map(str.lower, self._container.metadata):
            named.pop("title", None)  # the name of the track, such as "Stereo"
        return named

    def blocks(self, start_seconds: float, stop_seconds: float) -> Iterator[tuple[int, FloatArray]]:
        """Yield (Hz, (n,) mono float32), some MB at most, from start to stop or to the end; damaged packets are left out.

        The first sample of the file is at 0. Decoding begins some packets before the start.
        """
        first = bisect_left(self.starts, start_seconds) - 1
        early = bisect_left(self.starts, start_seconds - _WARM_UP_SECONDS) - 1
        first = max(first - _WARM_UP_PACKETS, early, 0)
        while first > 0 and not getattr(self.packets[first], "is_keyframe", True):
            first -= 1
        last = min(bisect_left(self.starts, stop_seconds) + 1, len(self.packets))
        at: float | None = None
        for frame in _joined(self._frames(first, last)):
            if not is_readable(frame):
                continue
            at = self._began if at is None else at
            rate, samples = frame.sample_rate, to_mono(frame, self._silence_peak)
            begin = max(round((start_seconds - at) * rate), 0)
            end = round(min((stop_seconds - at) * rate, samples.size))
            if begin < end:
                yield rate, samples[begin:end]
            at += samples.size / rate
            if at >= stop_seconds:
                return
        self.off_course |= not self.bad and abs((at or 0.0) - min(stop_seconds, self.seconds)) > _OFF_COURSE_SECONDS

    def _frames(self, first: int, last: int) -> Iterator[av.AudioFrame]:
        """Decode packets `first` to `last`; `_began` is then the second at which the first frame begins."""
        self._codec.flush_buffers()
        self._began = 0.0
        known = first == 0
        rest = [None] if last == len(self.packets) else []  # what is left in the decoder
        for index, packet in enumerate([*self.packets[first:last], *rest], first):
            try:
                frames = self._codec.decode(packet if packet is None or isinstance(packet, av.Packet) else av.Packet(packet))
            except MemoryError:
                raise
            except (av.FFmpegError, ValueError, OSError):
                if packet is not None and not _is_padding(bytes(packet)):
                    self.bad.add(index)
                continue
            if not known and frames:
                # Counted back from the end of the packets, because some decoders keep their first output.
                end = float(self.starts[min(index + 1, last)])
                self._began, known = end - sum(frame.samples / frame.sample_rate for frame in frames), True
            yield from frames


def _joined(frames: Iterator[av.AudioFrame]) -> Iterator[Any]:
    """Frames of one kind in a row → few long ones: mixing down is then several times faster.

    A change of the channels must be seen here: AudioFifo (PyAV 18.1) crashes on one.
    """
    fifo, waiting = av.AudioFifo(), 0
    kind: tuple[int, str, int] | None = None
    for frame in frames:
        this = frame.layout.nb_channels, frame.format.name, frame.sample_rate
        if waiting and (this != kind or waiting >= _BLOCK_SAMPLES):
            yield fifo.read()
            waiting = 0
        if this != kind:
            fifo, kind = av.AudioFifo(), this
        if frame.samples >= _BLOCK_SAMPLES // 4 and not waiting:  # long enough as it is
            yield frame
            continue
        frame.pts = None
        fifo.write(frame)
        waiting += frame.samples
    if waiting:
        yield fifo.read()


def _is_padding(data: bytes) -> bool:
    """Whether a tag follows, or nothing but zeros: no damage."""
    rest = data.lstrip(b"\0")
    return not rest or rest.startswith(_TAGS)


def _too_long(max_seconds: float) -> AudioTooLong:
    return AudioTooLong(f"Expected at most {max_seconds:g} s of audio; more came.")
