"""Encoded bytes → `Recording`: mono windows at a release's rate. Pure and in-process; `DecodePool` runs it safely.

Order of work: sniff → read all packets, which gives the length → decode. A short track, and one whose decoder must
begin at the beginning, is decoded once, from end to end. Of a longer one only the requested windows are decoded, and,
where they are planned over the sounding part, its edges.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from app.audio.faults import find_faults
from app.audio.sniff import Found, sniff
from app.audio.spec import MIN_AUDIO_SECONDS, DecodeLimits, WindowRequest
from app.audio.stream import Stream
from app.audio.tags import read_lyrics, read_tags
from app.audio.windows import first_sound, fit_window, last_sound, plan_windows
from app.domain import FloatArray, Recording, Span, Window
from app.errors import AudioEmpty, AudioError, AudioNotFinite, AudioTooLong, DecoderMemory

_RESAMPLER_QUALITY = "HQ"  # 2.5 ms for 30 s, as MQ
_LARGEST_SAMPLE = 2.0**31  # 32-bit integers kept as float are read; beyond, the spectrogram would overflow
_EDGE_STEP_SECONDS = 5.0
_MARGIN_SECONDS = 0.05  # read beyond both ends of a window, so that the resampler's own edges lie outside
_SHORT_WINDOWS = 3  # a track of so many windows is decoded whole, even if fewer are requested
_FORMATS = {"vorbis": "Vorbis", "opus": "Opus", "flac": "FLAC"}  # names of what is inside Ogg

Cut = Callable[[Span], FloatArray]


def load_recording(data: bytes | Path, request: WindowRequest, limits: DecodeLimits) -> Recording:
    """Cut the windows that `app.audio.windows` plans; the samples are those of the mean of the channels.

    `data`: an encoded file, or the path of one. Raises the subclasses of AudioError.
    """
    encoded = data.read_bytes() if isinstance(data, Path) else data
    try:
        found = sniff(encoded)
        with Stream(encoded, found, limits) as stream, np.errstate(all="ignore"):  # samples that are not finite are refused
            return _Loading(encoded, found, stream, request, limits).recording()
    except MemoryError:
        raise DecoderMemory() from None


@dataclass(frozen=True, slots=True)
class _Loading:
    """One file being loaded."""

    data: bytes
    found: Found
    stream: Stream
    request: WindowRequest
    limits: DecodeLimits

    def recording(self) -> Recording:
        if not self.stream.packets:
            raise AudioEmpty("Expected audio; the container holds none.")
        if self._needs_whole():
            return self._whole()
        if self.stream.seconds < MIN_AUDIO_SECONDS:
            raise _too_short(self.stream.seconds)
        recording = self._parts()
        lost = self.stream.off_course or (self.stream.bad and not recording.windows)
        return self._whole() if lost else recording

    def _needs_whole(self) -> bool:
        if self.stream.chained or self.stream.seconds <= 0:
            return True
        if self.request.take == 0:
            return False
        partial = bool(self.request.spec.positions) and not self.request.whole
        windows = min(_SHORT_WINDOWS, self.request.max_windows) if partial else self.request.max_windows
        return self.stream.seconds <= windows * self.request.spec.window_seconds

    def _whole(self) -> Recording:
        """Decode once, then cut."""
        spec, bound = self.request.spec, self.limits.max_audio_seconds
        rate = spec.sample_rate_hz
        mono = self._resampled(self._all_blocks(bound + MIN_AUDIO_SECONDS))
        seconds = mono.size / rate
        if seconds > bound:
            raise AudioTooLong(f"Expected at most {bound:g} s of audio; decoding was stopped there.")
        if seconds < MIN_AUDIO_SECONDS:
            raise _too_short(seconds)
        first, last = first_sound(mono, self.limits.silence_peak), last_sound(mono, self.limits.silence_peak)
        span = Span(0.0, 0.0) if first is None or last is None else Span(first / rate, (last + 1) / rate)

        def cut(part: Span) -> FloatArray:
            start = round(part.start_seconds * rate)
            return mono[start : start + min(round(part.seconds * rate), spec.window_samples)]

        return self._recording(seconds, span, cut)

    def _all_blocks(self, stop_seconds: float) -> Iterator[tuple[int, FloatArray]]:
        """Decode from end to end; joined files that FFmpeg does not go on to are opened one by one."""
        yield from self.stream.blocks(0.0, stop_seconds)
        start, at = self.stream.next_start, self.stream.seconds
        for _ in range(self.limits.max_streams):
            if not start or at >= stop_seconds:
                return
            try:
                link = Stream(self.data, replace(self.found, start=start), self.limits)
            except AudioTooLong:
                raise
            except AudioError:  # it only looks like another file
                return
            with link:
                yield from link.blocks(0.0, stop_seconds - at)
                start, at = link.next_start, at + link.seconds
        self.stream.goes_on = start > 0

    def _parts(self) -> Recording:
        """Decode the requested windows, and the edges that the plan depends on."""
        seconds, rate = self.stream.seconds, self.request.spec.sample_rate_hz
        span = Span(0.0, seconds)
        if self.request.take != 0 and not self.request.spec.positions:
            span = Span(self._leading_edge(), self._trailing_edge())

        def cut(part: Span) -> FloatArray:
            return self._read(part)[: max(round(part.seconds * rate), 1)]

        return self._recording(seconds, span, cut)

    def _recording(self, seconds: float, span: Span, cut: Cut) -> Recording:
        """Cut the requested windows that are not silent; `next_index` is that of the first one not examined."""
        spec, plan = self.request.spec, plan_windows(span, self.request)
        most_lyrics = self.request.lyrics_characters
        wanted = len(plan) if self.request.take is None else self.request.take
        windows: list[Window] = []
        index = self.request.skip
        while index < len(plan) and len(windows) < wanted:
            samples = cut(plan[index])
            if first_sound(samples, self.limits.silence_peak) is not None:
                fitted = fit_window(samples, spec.window_samples, spec.padding)
                windows.append(Window(plan[index].start_seconds, plan[index].seconds, fitted))
            index += 1
        return Recording(
            seconds=seconds,
            windows=tuple(windows),
            format=_FORMATS.get(self.stream.codec, "Ogg") if self.found.format == "Ogg" else self.found.format,
            warnings=find_faults(self.stream, self.data, self.found, seconds),
            tags=read_tags(self.data, self.stream.metadata) if self.request.read_tags else None,
            lyrics=read_lyrics(self.data, self.stream.metadata, most_lyrics) if most_lyrics else None,
            next_index=index,
            planned=len(plan),
        )

    def _leading_edge(self) -> float:
        """The second at which sound begins, or at which the search ended."""
        at, bound = 0.0, min(self.limits.edge_search_seconds, self.stream.seconds / 2)
        for rate, block in self.stream.blocks(0.0, bound):
            found = first_sound(block, self.limits.silence_peak)
            if found is not None:
                return at + found / rate
            at += block.size / rate
        return bound

    def _trailing_edge(self) -> float:
        """The second at which sound ends, or at which the search ended; it steps back from the end."""
        stop = self.stream.seconds
        bound = stop - min(self.limits.edge_search_seconds, stop / 2)
        while stop > bound:
            start = at = max(stop - _EDGE_STEP_SECONDS, bound)
            found: float | None = None
            for rate, block in self.stream.blocks(start, stop):
                last = last_sound(block, self.limits.silence_peak)
                if last is not None:
                    found = at + (last + 1) / rate
                at += block.size / rate
            if found is not None:
                return found
            stop = start
        return bound

    def _read(self, span: Span) -> FloatArray:
        """(n,) mono from the span's start on, a little more than the span; as decoding the whole file would give it."""
        rate = self.request.spec.sample_rate_hz
        common_hz = math.gcd(self.stream.sample_rate_hz, rate)  # on this grid both rates have a sample
        begin = max(math.floor((span.start_seconds - _MARGIN_SECONDS) * common_hz) / common_hz, 0.0)
        mono = self._resampled(self.stream.blocks(begin, span.stop_seconds + _MARGIN_SECONDS))
        return mono[round(span.start_seconds * rate) - round(begin * rate) :]

    def _resampled(self, blocks: Iterable[tuple[int, FloatArray]]) -> FloatArray:
        """(n,) mono float32 at the release's rate. Raises AudioNotFinite and what the stream raises."""
        parts = list(_resample(blocks, self.request.spec.sample_rate_hz))
        mono = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        if mono.size and not (mono.max() < _LARGEST_SAMPLE and mono.min() > -_LARGEST_SAMPLE):  # also false for NaN
            raise AudioNotFinite("Expected finite samples up to 2^31; larger, infinite or NaN ones came.")
        return mono


def _resample(blocks: Iterable[tuple[int, FloatArray]], rate_hz: int) -> Iterator[FloatArray]:
    """Resample each stretch of one sample rate by a resampler of its own."""
    resampler, own_hz, rest = None, 0, np.zeros(0, np.float32)
    for block_hz, block in blocks:
        if block_hz != own_hz:
            if resampler is not None:
                yield resampler.resample_chunk(rest, last=True)
            own_hz = block_hz
            resampler = None
            if own_hz != rate_hz:
                resampler = soxr.ResampleStream(own_hz, rate_hz, 1, dtype="float32", quality=_RESAMPLER_QUALITY)
        yield block if resampler is None else resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(rest, last=True)


def _too_short(seconds: float) -> AudioEmpty:
    return AudioEmpty(f"Expected at least {MIN_AUDIO_SECONDS} s of audio; it holds {max(seconds, 0.0):.3f} s.")
