"""Which container the bytes are, told from the bytes alone: never from a file name or a content type."""

from __future__ import annotations

from enum import StrEnum

from app.audio import mpeg
from app.errors import AudioUnknownFormat

_ID3_HEADER_BYTES = 10
_PADDING_SEARCH_BYTES = 64 * 1024  # how far after an ID3 tag the first frame is looked for
_MAX_ID3_TAGS = 8
_QUICKTIME_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")


class Container(StrEnum):
    WAV = "WAV"
    AIFF = "AIFF"
    FLAC = "FLAC"
    MP3 = "MP3"
    ADTS = "AAC"
    OGG = "Ogg"
    MP4 = "MP4"
    WEBM = "WebM"


def strip_id3(data: bytes) -> bytes:
    """`data` without leading ID3v2 tags and the padding after them; the same object when there are none."""
    start = 0
    for _ in range(_MAX_ID3_TAGS):
        head = data[start : start + _ID3_HEADER_BYTES]
        if len(head) < _ID3_HEADER_BYTES or head[:3] != b"ID3":
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        start += _ID3_HEADER_BYTES * (2 if head[5] & 0x10 else 1) + size  # bit 4: a footer repeats the header
    if start == 0:
        return data
    padding = data[start : start + _PADDING_SEARCH_BYTES]
    return data[start + len(padding) - len(padding.lstrip(b"\0")) :]


def sniff(data: bytes) -> Container:
    """The container of `data` (without ID3 tags). Raises AudioUnknownFormat."""
    head = data[:16]
    tests = {
        Container.WAV: head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE",
        Container.AIFF: head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"),
        Container.FLAC: head[:4] == b"fLaC",
        Container.OGG: head[:4] == b"OggS",
        Container.WEBM: head[:4] == b"\x1a\x45\xdf\xa3",
        Container.MP4: head[4:8] in _QUICKTIME_BOXES,
        Container.ADTS: mpeg.starts_adts(data),
        Container.MP3: mpeg.starts_mpeg(data),
    }
    for container, matches in tests.items():
        if matches:
            return container
    raise AudioUnknownFormat(f"Expected one of {', '.join(Container)}; the first bytes are none of these.")
