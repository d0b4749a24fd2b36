"""The ends of containers: finds those that are cut off, and where the next one of a chain begins."""

from __future__ import annotations

import re

from app.audio.sniff import Found

_OGG_HEADER_BYTES = 27
_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]")  # of a logical stream
_SEGMENT_ID = b"\x18\x53\x80\x67"


def missing_bytes(data: bytes, found: Found) -> str:
    """A sentence on a container that is cut off: expected and actual bytes; else empty."""
    if found.format == "Ogg" and (end := _ogg_end(data)) > len(data):
        return f"Expected the last Ogg page to end at byte {end}; {len(data)} bytes came."
    if found.format == "WebM" and (end := _segment_end(data, found.start)) > len(data):
        return f"Expected the segment to end at byte {end}; {len(data)} bytes came."
    if found.format == "MP4" and not _holds_index(data):
        return "Expected a whole 'moov' box, the index; the file ends before it does."
    return ""


def _ogg_end(data: bytes) -> int:
    """The byte behind the last page, as its header says (RFC 3533 §6)."""
    at = data.rfind(b"OggS\0")
    if at + _OGG_HEADER_BYTES > len(data):
        return at + _OGG_HEADER_BYTES
    body = at + _OGG_HEADER_BYTES + data[at + 26]
    return body + sum(data[at + _OGG_HEADER_BYTES : body])


def _segment_end(data: bytes, start: int) -> int:
    """The byte behind the Segment (RFC 9559); 0 where the writer left its size open."""
    at = data.find(_SEGMENT_ID, start) + len(_SEGMENT_ID)
    if at < len(_SEGMENT_ID) or at >= len(data) or data[at] == 0:
        return 0
    width = 9 - data[at].bit_length()
    size, unknown = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1, (1 << 7 * width) - 1
    return 0 if size == unknown else at + width + size


def _holds_index(mp4: bytes) -> bool:
    at = mp4.find(b"moov") - 4
    return at >= 0 and at + int.from_bytes(mp4[at : at + 4], "big") <= len(mp4)


def next_link(ogg: bytes, after: int) -> int:
    """The first byte of the chain's next link (RFC 3533 §4); 0 if there is none."""
    found = _FIRST_PAGE.search(ogg, after + 1)
    return found.start() if found else 0


def mended(data: bytes, found: Found) -> bytes:
    """`data`, with the sizes that FFmpeg needs where a writer that cannot seek back left zeros: in AIFF."""
    at = data.find(b"SSND") + 4 if found.format == "AIFF" else 0
    if at < 4 or (any(data[at : at + 4]) and any(data[4:8])):
        return data
    form, sound = ((len(data) - begin).to_bytes(4, "big") for begin in (8, at + 4))
    return data[:4] + form + data[8:at] + sound + data[at + 4 :]
