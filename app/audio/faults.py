"""Warnings on files that can be heard: truncated or damaged. Only this module uses the lengths in headers, as hints."""

import math

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
_FRAMES = ("mp3", "aac", "loas", "ac3", "eac3")  # demuxers that give out a last frame that is not whole
_ZEROS_BYTES = 188  # at the end of a file they are no packet
_LEAST_GAPS_SECONDS = {  # in time stamps: shorter ones, and those of other formats, may be pauses or cuts
    "Ogg": -math.inf,
    **dict.fromkeys(("WebM", "Windows Media", "RealAudio", "NUT"), 0.5),
}
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
    if lost := [gap for gap in stream.gaps if stream.gap_seconds(gap) > _LEAST_GAPS_SECONDS.get(found.format, math.inf)]:
        detail = f"Expected packets without a gap; some are missing in {len(lost)} places."
        return (AudioWarning("damaged", detail, float(stream.starts[lost[0]])),)
    promised, clock = stream.promised_seconds or 0.0, stream.clock_seconds or 0.0
    came = seconds if stream.chained else stream.seconds
    rounding = 0.0 if stream.codec.startswith("pcm_") else float(np.diff(stream.starts).max())  # CAF states whole packets
    if found.format in _EXACT_FORMATS and promised > came + max(_TOLERANCE_SECONDS, rounding):
        detail = f"Expected {promised:.2f} s of audio; {came:.2f} s came."
        whole_end = clock > promised - _TOLERANCE_SECONDS
        return (AudioWarning("damaged", detail) if whole_end else AudioWarning("truncated", detail, seconds),)
    if found.format == "MP3" and (lost_frames := _lost_frames(stream, data, found, seconds)):
        return (lost_frames,)
    missing = _missing(stream, data, found)
    return (AudioWarning("truncated", missing, seconds),) if missing else ()


def _missing(stream: Stream, data: bytes, found: Found) -> str:
    """A sentence on a file that ends too early: what was expected and what came; else empty."""
    if found.demuxer in _FRAMES and (size := _last_frame_bytes(stream, found)) > stream.packets[-1].size:
        return f"Expected a last frame of {size} bytes; {stream.packets[-1].size} came."
    # The last packet is not whole, or fails to decode; but some writers pad the end by less than a packet, or with zeros.
    states_length = found.format in (*_EXACT_FORMATS, "WAV") and stream.promised_seconds is not None
    complete = states_length and float(stream.starts[-2]) >= (stream.promised_seconds or 0.0)
    if stream.bad and not complete and any(data[-_ZEROS_BYTES:]):
        return "Expected a whole last packet; the file ends within it."
    return missing_bytes(data, found, found.start + stream.end)


def _lost_frames(stream: Stream, data: bytes, found: Found, seconds: float) -> AudioWarning | None:
    """Whether a Xing header counts more frames than came; if it does not count more bytes, some are lost on the way."""
    head = data[found.start : found.start + _XING_SEARCH_BYTES]
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if not 0 <= at <= len(head) - 16 or not head[at + 7] & 1:
        return None
    frames, size = (int.from_bytes(head[at + begin : at + begin + 4], "big") for begin in (8, 12))
    if frames <= len(stream.packets) + 1:  # some writers count the header's own frame
        return None
    detail = f"Expected {frames} frames; {len(stream.packets)} came."
    whole = head[at + 7] & 2 and len(data) - found.start >= size
    return AudioWarning("damaged", detail) if whole else AudioWarning("truncated", detail, seconds)


def _last_frame_bytes(stream: Stream, found: Found) -> int:
    """What the last frame should have by its header, or, in AC3, by the frame before; 0: unknown."""
    before, last = (bytes(packet) for packet in (stream.packets[-2:][0], stream.packets[-1]))
    if found.demuxer in ("mp3", "aac"):
        frame = frame_at(last, 0)
        return frame.bytes if frame else 0
    if found.demuxer == "loas":
        return (int.from_bytes(last[1:3], "big") & 0x1FFF) + 3 if last[0] == before[0] else 0
    if found.demuxer == "eac3":
        return ((int.from_bytes(last[2:4], "big") & 0x7FF) + 1) * 2 if last[:2] == before[:2] else 0
    return len(before) - 2 if last[4:5] == before[4:5] else 0  # at 44.1 kHz every other frame is shorter by two
