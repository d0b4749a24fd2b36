"""Warnings on files that can be heard: truncated or damaged. Only this module uses the lengths in headers, as hints."""

from __future__ import annotations

from typing import Literal

from app.audio.ends import missing_bytes
from app.audio.mpeg import frame_at
from app.audio.sniff import Found
from app.audio.stream import Stream
from app.domain import AudioWarning

_EXACT_FORMATS = ("AIFF", "CAF", "FLAC", "MP4")  # their headers state the length; others leave FFmpeg to estimate it
_TOLERANCE_SECONDS = 0.1
_CHUNKS = {"WAV": b"data", "AIFF": b"SSND"}  # the chunk that holds the samples
_OPEN_BYTES = 0x7F000000  # sizes from here on, and 0, are left by writers that cannot seek back
_XING_SEARCH_BYTES = 200  # header, checksum and side information come before the tag


def find_faults(stream: Stream, data: bytes, found: Found, seconds: float) -> tuple[AudioWarning, ...]:
    """Faults of the packets, including those found while decoding so far. `seconds`: length of the track."""
    last = len(stream.packets) - 1
    broken = sorted(index for index in stream.bad if index < last)
    if broken:
        detail = f"{len(broken)} of {last + 1} packets are damaged, or more: not all were decoded."
        return (AudioWarning("damaged", detail, float(stream.starts[broken[0]])),)
    if found.format == "Ogg" and stream.gaps:
        return (AudioWarning("damaged", "Expected all pages; some are missing.", float(stream.starts[stream.gaps[0]])),)
    promised, clock = stream.promised_seconds or 0.0, stream.clock_seconds or 0.0
    if found.format in _EXACT_FORMATS and promised > stream.seconds + _TOLERANCE_SECONDS:
        detail = f"Expected {promised:.2f} s of audio; {stream.seconds:.2f} s came."
        whole_end = clock > promised - _TOLERANCE_SECONDS
        return (AudioWarning("damaged", detail) if whole_end else AudioWarning("truncated", detail, seconds),)
    missing = _missing(stream, data, found)
    return (AudioWarning("truncated", missing, seconds),) if missing else ()


def _missing(stream: Stream, data: bytes, found: Found) -> str:
    """A sentence on a file that ends too early: what was expected and what came; else empty."""
    if found.format in ("MP3", "AAC"):
        return _missing_frames(stream, data, found)
    if found.format in _CHUNKS and _is_open_ended(data, found):
        return ""
    # The last packet is not whole, or fails to decode; but some writers pad the end by less than a packet.
    complete = stream.promised_seconds is not None and float(stream.starts[-2]) >= stream.promised_seconds
    if stream.bad and not complete:
        return "Expected a whole last packet; the file ends within it."
    return missing_bytes(data, found)


def _is_open_ended(data: bytes, found: Found) -> bool:
    """Whether the chunk of samples has no size, and reaches to the end of the file."""
    at = data.find(_CHUNKS[found.format], found.start + 12)
    order: Literal["little", "big"] = "big" if data[found.start : found.start + 4] in (b"FORM", b"RIFX") else "little"
    return not 0 < int.from_bytes(data[at + 4 : at + 8], order) < _OPEN_BYTES


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
