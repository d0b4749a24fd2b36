"""Warnings on files that can be heard: truncated or damaged. Only this module uses the lengths in headers, as hints."""

from __future__ import annotations

import numpy as np

from app.audio.ends import missing_bytes
from app.audio.mpeg import frame_at
from app.audio.sniff import Found
from app.audio.stream import Stream
from app.domain import AudioWarning

_ARCHIVES = ("DSD", "FLAC", "Monkey's Audio", "Musepack", "TAK", "True Audio", "WavPack")
_EXACT_FORMATS = ("AIFF", "AU", "CAF", "Flash video", "MP4", *_ARCHIVES)  # their headers state the length, not an estimate
_LAST_SECONDS = 0.25  # packets that are damaged no earlier say that the file is cut off
_TOLERANCE_SECONDS = 0.1
_ZEROS_BYTES = 188  # at the end of a file they are no packet
_XING_SEARCH_BYTES = 200  # header, checksum and side information come before the tag


def find_faults(stream: Stream, data: bytes, found: Found, seconds: float) -> tuple[AudioWarning, ...]:
    """Faults of the packets, including those found while decoding so far. `seconds`: length of the track."""
    if stream.goes_on:
        return (AudioWarning("truncated", "Expected fewer joined files; those behind were not heard.", seconds),)
    last = len(stream.packets) - 1
    broken = sorted(index for index in stream.bad if index < last and stream.starts[index] < stream.seconds - _LAST_SECONDS)
    if broken:
        detail = f"{len(broken)} of {last + 1} packets are damaged, or more: not all were decoded."
        return (AudioWarning("damaged", detail, float(stream.starts[broken[0]])),)
    if found.format == "Ogg" and stream.gaps:
        return (AudioWarning("damaged", "Expected all pages; some are missing.", float(stream.starts[stream.gaps[0]])),)
    promised, clock = stream.promised_seconds or 0.0, stream.clock_seconds or 0.0
    came = seconds if stream.chained else stream.seconds
    rounding = 0.0 if stream.codec.startswith("pcm_") else float(np.diff(stream.starts).max())  # CAF states whole packets
    if found.format in _EXACT_FORMATS and promised > came + max(_TOLERANCE_SECONDS, rounding):
        detail = f"Expected {promised:.2f} s of audio; {came:.2f} s came."
        whole_end = clock > promised - _TOLERANCE_SECONDS
        return (AudioWarning("damaged", detail) if whole_end else AudioWarning("truncated", detail, seconds),)
    missing = _missing(stream, data, found)
    return (AudioWarning("truncated", missing, seconds),) if missing else ()


def _missing(stream: Stream, data: bytes, found: Found) -> str:
    """A sentence on a file that ends too early: what was expected and what came; else empty."""
    if found.format in ("MP3", "AAC"):
        return _missing_frames(stream, data, found)
    # The last packet is not whole, or fails to decode; but some writers pad the end by less than a packet, or with zeros.
    states_length = found.format in (*_EXACT_FORMATS, "WAV") and stream.promised_seconds is not None
    complete = states_length and float(stream.starts[-2]) >= (stream.promised_seconds or 0.0)
    if stream.bad and not complete and any(data[-_ZEROS_BYTES:]):
        return "Expected a whole last packet; the file ends within it."
    return missing_bytes(data, found)


def _missing_frames(stream: Stream, data: bytes, found: Found) -> str:
    """The count in a Xing header, and the last frame's own size."""
    head = data[found.start : found.start + _XING_SEARCH_BYTES]
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if 0 <= at <= len(head) - 12 and head[at + 7] & 1:
        frames = int.from_bytes(head[at + 8 : at + 12], "big")
        if frames > len(stream.packets) + 1:  # some writers count the header's own frame
            return f"Expected {frames} frames; {len(stream.packets)} came."
    last = bytes(stream.packets[-1])
    frame = frame_at(last, 0)
    if frame is not None and frame.bytes > len(last):
        return f"Expected a last frame of {frame.bytes} bytes; {len(last)} came."
    return ""
