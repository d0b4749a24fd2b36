"""Encoded bytes → `Recording`: mono windows at a release's rate. Pure and in-process; `DecodePool` runs it safely.

Order of work: sniff → inspect the headers and refuse → decode. A track that its windows cover is decoded once, from end
to end. Of a longer one only the edges (to find where it starts and stops to sound) and the windows are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import soxr

from app.audio.boxes import inspect_mp4, inspect_ogg, inspect_webm
from app.audio.chunks import inspect_aiff, inspect_flac, inspect_wav
from app.audio.claim import Claim, check_claim, too_short
from app.audio.ffmpeg_source import AdtsSource, FFmpegSource
from app.audio.mpeg import inspect_adts, inspect_mp3
from app.audio.sndfile_source import SoundFileSource
from app.audio.sniff import Container, sniff, strip_id3
from app.audio.source import Source
from app.audio.spec import MIN_AUDIO_SECONDS, DecodeLimits, WindowRequest, WindowSpec
from app.audio.windows import Span, first_sound, fit_window, last_sound, plan_windows
from app.domain import FloatArray, Recording, Window
from app.errors import AudioEmpty, AudioNotFinite, AudioTooLong, DecoderMemory

_RESAMPLER_QUALITY = "HQ"  # 2.5 ms for 30 s, as MQ
_LARGEST_SAMPLE = 2.0**31  # 32-bit integers kept as float are read; beyond, the spectrogram would overflow
_EDGE_STEP_SECONDS = 5.0
_MARGIN_SECONDS = 0.05  # read past a window's end, so that rounding in the resampler leaves it full
_DEMUXERS: Mapping[Container, str] = {Container.OGG: "ogg", Container.MP4: "mp4", Container.WEBM: "matroska"}
_INSPECTORS: Mapping[Container, Callable[[bytes], Claim]] = {
    Container.WAV: inspect_wav,
    Container.AIFF: inspect_aiff,
    Container.FLAC: inspect_flac,
    Container.MP3: inspect_mp3,
    Container.ADTS: inspect_adts,
    Container.MP4: inspect_mp4,
    Container.WEBM: inspect_webm,
}


def load_recording(data: bytes | Path, request: WindowRequest, limits: DecodeLimits) -> Recording:
    """Cut the windows that `app.audio.windows` plans; the samples are those of the mean of the channels.

    `data`: an encoded file, or the path of one. Raises the subclasses of AudioError.
    """
    encoded = data.read_bytes() if isinstance(data, Path) else data
    if not encoded:
        raise AudioEmpty("Expected an audio file; 0 bytes came.")
    try:
        return _load(strip_id3(encoded), request, limits)
    except MemoryError:
        raise DecoderMemory() from None


def inspect(data: bytes, container: Container, limits: DecodeLimits) -> Claim:
    """What the headers say, without decoding. Raises AudioCorrupt, AudioTruncated, AudioUnknownFormat."""
    if container is Container.OGG:
        return inspect_ogg(data, limits.max_streams)
    return _INSPECTORS[container](data)


def _open(data: bytes, container: Container, claim: Claim, limits: DecodeLimits) -> AbstractContextManager[Source]:
    if container is Container.ADTS:
        return AdtsSource(data)
    if container in _DEMUXERS:
        return FFmpegSource(data, _DEMUXERS[container], limits.max_streams)
    return SoundFileSource(data, claim)


def _load(data: bytes, request: WindowRequest, limits: DecodeLimits) -> Recording:
    container = sniff(data)
    claim = inspect(data, container, limits)
    check_claim(claim, limits)
    with _open(data, container, claim, limits) as source:
        check_claim(Claim(claim.format, source.sample_rate_hz, source.channels, source.seconds), limits)
        if source.seconds is None or source.seconds <= request.max_windows * request.spec.window_seconds:
            return _load_whole(source, claim, request, limits)
        return _load_parts(source, source.seconds, claim, request, limits)


def _load_whole(source: Source, claim: Claim, request: WindowRequest, limits: DecodeLimits) -> Recording:
    """Decode once, then cut."""
    spec, bound = request.spec, limits.max_audio_seconds
    mono = _read(source, Span(0.0, bound + MIN_AUDIO_SECONDS), spec)
    seconds = mono.size / spec.sample_rate_hz
    if seconds > bound:
        raise AudioTooLong(f"Expected at most {bound:g} s of audio; decoding was stopped there.")
    if seconds < MIN_AUDIO_SECONDS:
        raise too_short(seconds)
    first, last = first_sound(mono, limits.silence_peak), last_sound(mono, limits.silence_peak)
    if first is None or last is None:
        return Recording(seconds, (), claim.format)
    rate = spec.sample_rate_hz

    def cut(part: Span) -> FloatArray:
        start = round(part.start_seconds * rate)
        return mono[start : start + min(round(part.seconds * rate), spec.window_samples)]

    plan = plan_windows(Span(first / rate, (last + 1) / rate), request)
    windows, next_index = _sounding(plan, request, limits, cut)
    return Recording(seconds, windows, claim.format, next_index=next_index, planned=len(plan))


def _load_parts(source: Source, seconds: float, claim: Claim, request: WindowRequest, limits: DecodeLimits) -> Recording:
    """Seek to the edges and to the windows."""
    span = Span(_leading_edge(source, seconds, limits), _trailing_edge(source, seconds, limits))

    def cut(part: Span) -> FloatArray:
        mono = _read(source, Span(part.start_seconds, part.stop_seconds + _MARGIN_SECONDS), request.spec)
        return mono[: max(round(part.seconds * request.spec.sample_rate_hz), 1)]

    plan = plan_windows(span, request)
    windows, next_index = _sounding(plan, request, limits, cut)
    return Recording(seconds, windows, claim.format, next_index=next_index, planned=len(plan))


def _sounding(
    plan: tuple[Span, ...], request: WindowRequest, limits: DecodeLimits, cut: Callable[[Span], FloatArray]
) -> tuple[tuple[Window, ...], int]:
    """The windows asked for that are not silent, and the index of the first that was not looked at."""
    windows: list[Window] = []
    wanted = len(plan) if request.take is None else request.take
    index = request.skip
    while index < len(plan) and len(windows) < wanted:
        samples = cut(plan[index])
        if first_sound(samples, limits.silence_peak) is not None:
            fitted = fit_window(samples, request.spec.window_samples, request.spec.padding)
            windows.append(Window(plan[index].start_seconds, plan[index].seconds, fitted))
        index += 1
    return tuple(windows), index


def _leading_edge(source: Source, seconds: float, limits: DecodeLimits) -> float:
    """Where sound begins, or where the search for it was given up."""
    at, bound = 0, min(limits.edge_search_seconds, seconds / 2)
    for block in source.blocks(0.0, bound):
        found = first_sound(block, limits.silence_peak)
        if found is not None:
            return (at + found) / source.sample_rate_hz
        at += block.size
    return bound


def _trailing_edge(source: Source, seconds: float, limits: DecodeLimits) -> float:
    """Where sound ends, or where the search for it was given up; steps back from the end."""
    bound = seconds - min(limits.edge_search_seconds, seconds / 2)
    stop = seconds
    while stop > bound:
        start = max(stop - _EDGE_STEP_SECONDS, bound)
        found: float | None = None
        at = round(start * source.sample_rate_hz)
        for block in source.blocks(start, stop):
            last = last_sound(block, limits.silence_peak)
            if last is not None:
                found = (at + last + 1) / source.sample_rate_hz
            at += block.size
        if found is not None:
            return found
        stop = start
    return bound


def _read(source: Source, span: Span, spec: WindowSpec) -> FloatArray:
    """(n,) mono float32 at `spec.sample_rate_hz`. Raises AudioNotFinite and what the source raises."""
    parts = list(_resampled(source.blocks(span.start_seconds, span.stop_seconds), source.sample_rate_hz, spec))
    mono = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if mono.size and not (mono.max() < _LARGEST_SAMPLE and mono.min() > -_LARGEST_SAMPLE):  # also false for NaN
        raise AudioNotFinite("Expected finite samples up to 2^31; larger, infinite or NaN ones came.")
    return mono


def _resampled(blocks: Iterator[FloatArray], sample_rate_hz: int, spec: WindowSpec) -> Iterator[FloatArray]:
    if sample_rate_hz == spec.sample_rate_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(
        sample_rate_hz, spec.sample_rate_hz, num_channels=1, dtype="float32", quality=_RESAMPLER_QUALITY
    )
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
