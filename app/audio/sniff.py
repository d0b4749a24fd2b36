"""Detects the container and its first byte from the bytes alone, never from a file name or content type.

As players do, a bounded number of bytes is searched for the beginning: behind tags whose length is wrong, padding, or
half a frame. What follows the audio does not matter.
"""

import re
from dataclasses import dataclass

from app.audio.mpeg import find_frames
from app.errors import AudioEmpty, AudioUnknownFormat

_ID3_HEADER_BYTES, _APE_HEADER_BYTES = 10, 32
_MAX_TAGS = 8
_MP4_SIZE_ZEROS = 4  # zeros that may belong to the size of an MP4 box
_FRAME_SEARCH_BYTES = 1 << 19  # how far a first MPEG or ADTS frame is looked for
_MAGIC_SEARCH_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Found:
    """A container."""

    format: str  # as people call it
    demuxer: str  # FFmpeg's name
    start: int  # its first byte
    magic: bytes = b""  # pattern by which another one is found behind it; empty: FFmpeg goes on by itself


_ANYWHERE = {  # magic: (format, demuxer); distinct enough to be searched for
    rb"(?:RIFF|RIFX|RF64|BW64)[\s\S]{4}WAVE": ("WAV", "wav"),
    rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb": ("WAV", "w64"),
    rb"FORM[\s\S]{4}AIF[FC]": ("AIFF", "aiff"),
    rb"fLaC[\x00\x80]\x00\x00\x22": ("FLAC", "flac"),
    rb"OggS\x00": ("Ogg", "ogg"),
    rb"(?:\x47[\s\S]{187}){7}\x47": ("MPEG-TS", "mpegts"),
    rb"(?:\x47[\s\S]{191}){7}\x47": ("MPEG-TS", "mpegts"),  # of Blu-ray: four bytes more
    rb"\x00\x00\x01\xba[\x21\x31\x44-\x7f]": ("MPEG", "mpeg"),
    rb"\x0b\x77[\s\S]{3}([\x00-\x57])(?=(?>[\s\S]{58,3840}?\x0b\x77[\s\S]{3}\1){2})": ("AC3", "ac3"),
    rb"\x0b\x77[\s\S]{3}([\x58-\x87])(?=(?>[\s\S]{58,4096}?\x0b\x77[\s\S]{3}\1){2})": ("AC3", "eac3"),
    rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\x00|\xff\x1f\x00\xe8": ("DTS", "dts"),
    rb"[\s\S]{4}\xf8\x72\x6f\xba": ("TrueHD", "truehd"),
    rb"[\s\S]{4}\xf8\x72\x6f\xbb": ("MLP", "mlp"),
}
_FROM_THE_MIDDLE = {  # looked for last: AAC of MPEG-2 begins alike
    rb"\xff[\xf8\xf9]([\x11-\xef])[\x00-\xae](?=(?>[\s\S]{16,16384}?\xff[\xf8\xf9]\1){2})": ("FLAC", "flac"),
}
_AT_START = {
    rb"\x1a\x45\xdf\xa3": ("WebM", "matroska"),
    rb"fLaC": ("FLAC", "flac"),
    rb"[\s\S]{4}(?:ftyp|moov|moof|mdat|free|skip|wide|pnot|styp|sidx|uuid)": ("MP4", "mp4"),
    rb"caff\x00": ("CAF", "caf"),
    rb"\.snd": ("AU", "au"),
    rb"#!AMR": ("AMR", "amr"),
    rb"wvpk": ("WavPack", "wv"),
    rb"MAC [\s\S][\x0e\x0f]": ("Monkey's Audio", "ape"),
    rb"MP\+[\x07\x17]": ("Musepack", "mpc"),
    rb"MPCK": ("Musepack", "mpc8"),
    rb"TTA1": ("True Audio", "tta"),
    rb"tBaK": ("TAK", "tak"),
    rb"ajkg": ("Shorten", "shn"),
    rb"DSD \x1c": ("DSD", "dsf"),
    rb"FRM8[\s\S]{8}DSD ": ("DSD", "iff"),
    rb"FORM[\s\S]{4}(?:8SVX|16SV)": ("8SVX", "iff"),
    rb"Creative Voice File": ("VOC", "voc"),
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ("Windows Media", "asf"),
    rb"\.RMF|\.ra\xfd": ("RealAudio", "rm"),
    rb"NIST_1A": ("NIST SPHERE", "nistsphere"),
    rb"\.SoX|XoS\.": ("SoX", "sox"),
    rb"nut/multimedia container\x00": ("NUT", "nut"),
    rb"FLV\x01": ("Flash video", "flv"),
    rb"\x1f\x07\x00[\x3f\xbf]": ("DV", "dv"),
    rb"\xb7\xd8\x00\x20\x37\x49\xda\x11": ("Windows TV", "wtv"),
    rb"RIFF[\s\S]{4}AVI[ X\x19]": ("AVI", "avi"),
    rb"\x56[\xe0-\xff]": ("AAC", "loas"),
}
_ENDLESS = ("MPEG-TS", "MPEG", "AC3", "DTS", "TrueHD", "MLP", "AAC")  # frames follow each other, whatever lies between
_NOT_READ = {
    rb"OFR ": "OptimFROG",
    rb"LA0[1-4]": "Lossless Audio",
    rb"ADIF": "AAC without frame headers",
    rb"EA3|ea3\x03": "ATRAC",
    rb"MThd": "MIDI",
    rb"FWS|CWS": "Flash",
    rb"TTA2": "True Audio 2",
}


def sniff(data: bytes) -> Found:
    """The container of `data`. Raises AudioEmpty, AudioUnknownFormat."""
    if not data:
        raise AudioEmpty("Expected an audio file; 0 bytes came.")
    start = _end_of_tags(data)
    for magic, (name, demuxer) in (_ANYWHERE | _AT_START).items():
        if re.compile(magic).match(data, start):
            return Found(name, demuxer, start, b"" if name in _ENDLESS else magic)
    for magic, name in _NOT_READ.items():
        if re.compile(magic).match(data, start):
            raise AudioUnknownFormat(f"Expected one of {_names()}; {name} came.")
    if frames := find_frames(data, start, start + _FRAME_SEARCH_BYTES):
        at, first = frames
        return Found("MP3", "mp3", at) if first.layer else Found("AAC", "aac", at)
    for magic, (name, demuxer) in (_ANYWHERE | _FROM_THE_MIDDLE).items():
        if match := re.compile(magic).search(data, 0, start + _MAGIC_SEARCH_BYTES):  # also within a tag that is too long
            return Found(name, demuxer, match.start(), b"" if name in _ENDLESS else magic)
    raise AudioUnknownFormat(f"Expected one of {_names()}; the first bytes are none of these.")


def _names() -> str:
    return ", ".join(dict.fromkeys([name for name, _ in (_ANYWHERE | _AT_START).values()] + ["MP3", "AAC"]))


def _end_of_tags(data: bytes) -> int:
    """The first byte behind leading ID3v2 and APEv2 tags and zeros."""
    start = 0
    for _ in range(_MAX_TAGS):
        head = data[start : start + _APE_HEADER_BYTES]
        size = 0
        if head[:3] == b"ID3" and len(head) >= _ID3_HEADER_BYTES:
            size = _ID3_HEADER_BYTES * (2 if head[5] & 0x10 else 1)  # bit 4: a footer repeats the header
            size += sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        elif head[:8] == b"APETAGEX":
            size = _APE_HEADER_BYTES + int.from_bytes(head[12:16], "little")
        if not size or start + size > len(data):  # a length that is wrong: the first frame is searched for
            break
        start += size
    padding = data[start : start + _FRAME_SEARCH_BYTES]
    zeros = len(padding) - len(padding.lstrip(b"\0"))
    return start + (zeros if zeros > _MP4_SIZE_ZEROS else 0)
