"""Headers of WAV, AIFF and FLAC: rate, channels, length, and whether all the promised bytes came.

Layouts: Microsoft RIFF/WAVE and EBU Tech 3306 (RF64), Apple AIFF-C, RFC 9639 (FLAC).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Literal

from app.audio.claim import Claim
from app.errors import AudioCorrupt, AudioTruncated

_ByteOrder = Literal["little", "big"]
# Writers that cannot seek back leave one of these as the length of the data: it then reaches to the end of the file.
_STREAMED_BYTES = frozenset({0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF})
_LINEAR_TAGS = frozenset({1, 3, 6, 7})  # PCM, float, A-law, mu-law: bytes are proportional to samples
_EXTENSIBLE_TAG = 0xFFFE
_FLAC_HEADERS_BYTES = 42


def _chunks(data: bytes, order: _ByteOrder) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte of the body, size as the header says) of each chunk after the 12-byte file header."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], order)
        yield data[at : at + 4], at + 8, size
        at += 8 + size + (size & 1)


def inspect_wav(data: bytes) -> Claim:
    """WAV, RF64 and big-endian RIFX."""
    order: _ByteOrder = "big" if data[:4] == b"RIFX" else "little"
    sign = ">" if order == "big" else "<"
    fmt: tuple[int, ...] | None = None
    long_size: int | None = None
    for name, at, size in _chunks(data, order):
        if name == b"ds64" and at + 16 <= len(data):
            long_size = int.from_bytes(data[at + 8 : at + 16], "little")
        elif name == b"fmt " and at + 16 <= len(data):
            fmt = struct.unpack_from(f"{sign}HHIIHH", data, at)  # tag, channels, Hz, bytes/s, bytes/frame, bits
            if fmt[0] == _EXTENSIBLE_TAG and size >= 26 and at + 26 <= len(data):
                fmt = (int.from_bytes(data[at + 24 : at + 26], order), *fmt[1:])
        elif name == b"data":
            if fmt is None:
                raise AudioCorrupt("Expected a 'fmt ' chunk before the 'data' chunk; none came.")
            return _wav_claim(data, fmt, at, long_size if long_size and size == 0xFFFFFFFF else size)
    raise AudioTruncated("Expected a 'data' chunk; the file ends before it.")


def _wav_claim(data: bytes, fmt: tuple[int, ...], at: int, size: int) -> Claim:
    tag, channels, rate, _, frame_bytes, _ = fmt
    came = len(data) - at
    riff_bytes = int.from_bytes(data[4:8], "big" if data[:4] == b"RIFX" else "little") + 8
    if size in _STREAMED_BYTES and not (size == 0 and riff_bytes == len(data)):
        size = came
    missing = f"Expected {size} bytes of samples; {came} came." if size > came else ""
    seconds = None
    if tag in _LINEAR_TAGS and frame_bytes > 0 and rate > 0:
        seconds = size // frame_bytes / rate
    return Claim("WAV", rate, channels, seconds, missing)


def _extended(raw: bytes) -> float:
    """An 80-bit IEEE 754 extended number (AIFF keeps its sample rate so)."""
    exponent, mantissa = struct.unpack(">HQ", raw)
    return math.ldexp(mantissa, (exponent & 0x7FFF) - 16383 - 63) if exponent & 0x7FFF < 16383 + 64 else math.inf


def inspect_aiff(data: bytes) -> Claim:
    """AIFF and AIFF-C."""
    claim: Claim | None = None
    ssnd_missing: str | None = None
    for name, at, size in _chunks(data, "big"):
        if name == b"COMM" and at + 18 <= len(data):
            channels, frames, _, raw = struct.unpack_from(">HIH10s", data, at)
            rate = int(min(_extended(raw), 2.0**40))
            claim = Claim("AIFF", rate, channels, frames / rate if rate else None)
        elif name == b"SSND":
            came = len(data) - at
            ssnd_missing = f"Expected {size} bytes of samples; {came} came." if size > came else ""
    if claim is None or (ssnd_missing is None and claim.seconds):
        raise AudioTruncated("Expected a COMM and an SSND chunk; the file ends before them.")
    return Claim("AIFF", claim.sample_rate_hz, claim.channels, claim.seconds, ssnd_missing or "")


def inspect_flac(data: bytes) -> Claim:
    """Reads STREAMINFO and walks over the other metadata blocks. Missing frames show in decoding only."""
    if len(data) < _FLAC_HEADERS_BYTES:
        raise AudioTruncated(f"Expected at least {_FLAC_HEADERS_BYTES} bytes of FLAC headers; {len(data)} came.")
    if data[4] & 0x7F != 0:
        raise AudioCorrupt("Expected STREAMINFO as the first FLAC metadata block; another one came.")
    packed = int.from_bytes(data[18:26], "big")  # 20 bits Hz, 3 channels - 1, 5 bits - 1, 36 samples (0: unknown)
    rate, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    missing = ""
    if at > len(data) or not last:
        missing = f"Expected FLAC headers of at least {at} bytes; {len(data)} came."
    elif samples and at == len(data):
        missing = f"Expected {samples} sample frames; none came."
    seconds = samples / rate if samples and rate else None
    return Claim("FLAC", rate, channels, 0.0 if at == len(data) and not samples else seconds, missing)
