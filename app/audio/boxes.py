"""Containers of pages, boxes and elements: Ogg (RFC 3533), MP4 (ISO/IEC 14496-12) and WebM (RFC 8794, RFC 9559).

Only what can be told without decoding: is the file whole, and for Ogg how long, how fast and how many channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.audio.claim import Claim
from app.errors import AudioCorrupt, AudioTruncated, AudioUnknownFormat

OPUS_RATE_HZ = 48_000  # Opus always decodes to this, RFC 7845 §4
_OGG_HEADER_BYTES = 27
_LAST_PAGE = 4
_FIRST_PAGE = 2
_MAX_FIRST_PAGE_SECONDS = 60.0  # a first position later than this means that a broadcast was cut into
_SEGMENT_ID = b"\x18\x53\x80\x67"


@dataclass(slots=True)
class _OggStream:
    """One logical stream of a file, as its pages go by."""

    format: str
    sample_rate_hz: int
    channels: int
    pre_skip: int
    first_position: int = -1  # in samples
    last_position: int = -1
    ended: bool = False


def inspect_ogg(data: bytes, max_streams: int) -> Claim:
    """Walk over the pages: about 4 a second of audio."""
    streams: dict[bytes, _OggStream | None] = {}  # by serial number; None: not audio
    at, links, in_data = 0, 1, False
    while data[at : at + 4] == b"OggS" and at + _OGG_HEADER_BYTES <= len(data):
        flags, position, serial = data[at + 5], data[at + 6 : at + 14], data[at + 14 : at + 18]
        body = at + _OGG_HEADER_BYTES + data[at + 26]
        if flags & _FIRST_PAGE:
            links += in_data
            in_data = False
            streams[serial] = _ogg_head(data[body : body + 64])
            if len(streams) > max_streams:
                raise AudioCorrupt(f"Expected at most {max_streams} streams in the container; more came.")
        else:
            in_data = True
            if stream := streams.get(serial):
                _ogg_page(stream, flags, int.from_bytes(position, "little", signed=True))
        at = body + sum(data[at + _OGG_HEADER_BYTES : body])
    audio = next((stream for stream in streams.values() if stream), None)
    if audio is None:
        raise AudioUnknownFormat("Expected Vorbis, Opus or FLAC inside Ogg; none came.")
    missing = ""
    if at > len(data):
        missing = f"Expected the last Ogg page to end at byte {at}; {len(data)} bytes came."
    elif not audio.ended:
        missing = "Expected the last Ogg page to be marked as the end of the stream; it is not."
    return Claim(audio.format, audio.sample_rate_hz, audio.channels, _ogg_seconds(audio, links), missing)


def _ogg_head(packet: bytes) -> _OggStream | None:
    """The stream that a first packet opens, if it is audio that we read."""
    if packet[:7] == b"\x01vorbis" and len(packet) >= 30:
        return _OggStream("Vorbis", int.from_bytes(packet[12:16], "little"), packet[11], 0)
    if packet[:8] == b"OpusHead" and len(packet) >= 19:
        return _OggStream("Opus", OPUS_RATE_HZ, packet[9], int.from_bytes(packet[10:12], "little"))
    if packet[:5] == b"\x7fFLAC" and len(packet) >= 35:
        packed = int.from_bytes(packet[27:35], "big")
        return _OggStream("FLAC", packed >> 44, (packed >> 41 & 7) + 1, 0)
    return None


def _ogg_page(stream: _OggStream, flags: int, position: int) -> None:
    if position > 0:  # 0: headers; -1: no packet ends on this page
        stream.last_position = position
        if stream.first_position < 0:
            stream.first_position = position
    stream.ended = bool(flags & _LAST_PAGE)


def _ogg_seconds(stream: _OggStream, links: int) -> float | None:
    if links > 1 or stream.sample_rate_hz <= 0 or stream.last_position < 0:
        return 0.0 if links == 1 and stream.last_position < 0 else None  # links count from zero: length unknown
    late = stream.first_position > _MAX_FIRST_PAGE_SECONDS * stream.sample_rate_hz
    origin = stream.first_position if late else stream.pre_skip
    return max(stream.last_position - origin, 0) / stream.sample_rate_hz


def inspect_mp4(data: bytes) -> Claim:
    """Walk over the outermost boxes; rate, channels and length are the demuxer's to tell."""
    at, names = 0, set()
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        names.add(data[at + 4 : at + 8])
        if size == 1 and at + 16 <= len(data):
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:  # to the end of the file
            size = len(data) - at
        if size < 8:
            raise AudioCorrupt(f"Expected an MP4 box of at least 8 bytes; its header says {size}.")
        at += size
    missing = ""
    if at > len(data):
        missing = f"Expected the last MP4 box to end at byte {at}; {len(data)} bytes came."
    elif b"moov" not in names:
        missing = "Expected a 'moov' box with the index; none came."
    return Claim("MP4", missing=missing)


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """An EBML number and its width in bytes; None for "unknown"."""
    if at >= len(data) or data[at] == 0:
        raise AudioTruncated("Expected an EBML element size; the file ends before it.")
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    return (None if value == (1 << 7 * width) - 1 else value), width


def inspect_webm(data: bytes) -> Claim:
    """Compare the size of the one Segment with what came; live recordings leave it unknown."""
    size, width = _vint(data, 4)
    segment = 4 + width + (size or 0)
    if data[segment : segment + 4] != _SEGMENT_ID:
        raise AudioCorrupt("Expected a Segment after the EBML header; none came.")
    size, width = _vint(data, segment + 4)
    end = segment + 4 + width + (size or 0)
    missing = f"Expected {end} bytes; {len(data)} came." if size is not None and end > len(data) else ""
    return Claim("WebM", missing=missing)
