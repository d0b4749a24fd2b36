"""The ends of containers: finds those that are cut off, and where the next one of a chain begins."""

import re
from collections.abc import Mapping
from typing import Literal

from app.audio.sniff import Found

_OGG_HEADER_BYTES = 27
_SEGMENT_ID = b"\x18\x53\x80\x67"
_ELEMENT_ID = re.compile(  # of Matroska, between and behind packets: clusters, index, tags, blocks and what belongs to these
    rb"\x1f\x43\xb6\x75|\x1c\x53\xbb\x6b|\x12\x54\xc3\x67|\x75[\xa1\xa2]|[\x9b\xa0\xa1\xa3\xa7\xab\xe7\xec\xfb]"
)
_BLOCK_HEADER_BYTES = 4  # of Matroska, from where FFmpeg counts the position of its packet
_FLASH_HEADERS_BYTES = (13, 12)  # of AAC, and of other sound, from where FFmpeg counts the position of its packet
_FLASH_TAG = re.compile(rb"\0[\s\S]{3}[\x08\x09\x12]([\s\S]{0,3})")  # behind the size of the tag before
_LINKS = {"Ogg": rb"OggS\x00[\x02\x03\x06\x07]", "MP4": rb"[\s\S]{4}ftyp"}  # marks that stand at the beginning alone
_HEADER_BYTES = 1 << 20
_STATED_SIZES = {
    "AVI": rb"RIFF([\s\S]{4})AVI ",
    "Windows Media": rb"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65[\s\S]{24}([\s\S]{8})",
}
_OPEN_SIZES: Mapping[str, tuple[bytes, Literal["little", "big"], slice]] = {
    # by demuxer: the chunk of samples whose size is open, the order of its bytes, and where the size of the file stands
    "wav": (rb"data(\0{4}|[\s\S]{3}[\x7f-\xff])", "little", slice(4, 8)),
    "rifx": (rb"data(\0{4}|[\x7f-\xff][\s\S]{3})", "big", slice(4, 8)),
    "w64": (rb"data\xf3[\s\S]{11}(\0{8}|[\s\S]{7}[\x7f-\xff])", "little", slice(16, 24)),
    "aiff": (rb"SSND(\0{4}|[\x7f-\xff][\s\S]{3})", "big", slice(4, 8)),
    "caf": (rb"data(\xff{8})", "big", slice(0)),
}
_RF64_SIZE = slice(28, 36)  # of the samples
_WEB_HEADERS = re.compile(rb"(?:ICY|HTTP/1\.[01]) \d{3}[\s\S]{0,8192}?\r\n\r\n")


def missing_bytes(data: bytes, found: Found, behind: int = 0) -> str:
    """A sentence on a container that is cut off: expected and actual bytes; else empty. `behind`: end of its last packet."""
    if (end := _stated_end(data, found, behind)) > len(data):
        return f"Expected {found.format} to go on to byte {end}; {len(data)} bytes came."
    if found.format == "MP4" and not _holds_index(data):
        return "Expected a whole 'moov' box, the index; the file ends before it does."
    return ""


def _stated_end(data: bytes, found: Found, behind: int) -> int:
    """Where the container says that it ends, or its last part; 0: it does not say."""
    if found.format == "Ogg":
        return _ogg_end(data)
    if found.format == "WebM":
        return _segment_end(data, found.start) or _elements_end(data, behind + _BLOCK_HEADER_BYTES)
    if found.format == "Flash video":
        return _flash_end(data, behind)
    if found.format == "MPEG-TS":
        return _transport_end(data, found.start)
    size = _found(_STATED_SIZES.get(found.format), data, found.start)
    return found.start + int.from_bytes(size[1], "little") if size else 0


def _found(pattern: bytes | None, data: bytes, start: int) -> re.Match[bytes] | None:
    return re.compile(pattern).search(data, start, start + _HEADER_BYTES) if pattern else None


def _ogg_end(data: bytes) -> int:
    """The byte behind the last page, as its header says (RFC 3533 §6)."""
    at = data.rfind(b"OggS\0")
    if at + _OGG_HEADER_BYTES > len(data):
        return at + _OGG_HEADER_BYTES
    body = at + _OGG_HEADER_BYTES + data[at + 26]
    return body + sum(data[at + _OGG_HEADER_BYTES : body])


def _segment_end(data: bytes, start: int) -> int:
    """The byte behind the Segment (RFC 9559); 0 where the writer left its size open."""
    at = data.find(_SEGMENT_ID, start)
    return 0 if at < 0 else _element_end(data, at + len(_SEGMENT_ID))[1]


def _element_end(data: bytes, at: int) -> tuple[int, int]:
    """The byte behind the size of an element, whose first byte is at `at`, and the one behind the element; 0: left open."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    size, unknown = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1, (1 << 7 * width) - 1
    return at + width, 0 if size == unknown or not first else at + width + size


def _elements_end(data: bytes, at: int) -> int:
    """The byte behind the elements that follow at `at`."""
    while match := _ELEMENT_ID.match(data, at):
        inside, at = _element_end(data, match.end())
        if match.end() >= len(data):
            return len(data) + 1
        at = at or inside
    return at


def _flash_end(data: bytes, at: int) -> int:
    """The byte behind the tags that follow at `at`."""
    at += next((size for size in _FLASH_HEADERS_BYTES if _FLASH_TAG.match(data, at + size)), 0)
    while match := _FLASH_TAG.match(data, at):
        at = match.end() + 7 + int.from_bytes(match[1], "big")  # time stamp and number of the stream come before the body
    return at


def _transport_end(data: bytes, start: int) -> int:
    """The byte behind the last packet; packets have 188 bytes, of Blu-ray four more in front."""
    more = 0 if data[start + 188 : start + 189] == b"\x47" else 4
    rest = (len(data) - start - 188) % (188 + more)
    return len(data) - rest + 188 + more if rest and data[len(data) - rest :].startswith(b"\x47", more) else 0


def _holds_index(mp4: bytes) -> bool:
    at = mp4.find(b"moov") - 4
    return at >= 0 and at + int.from_bytes(mp4[at : at + 4], "big") <= len(mp4)


def next_link(data: bytes, after: int, found: Found) -> int:
    """The first byte of the next file that was joined to this one, or of a chain's link (RFC 3533 §4); 0: none."""
    magic = _LINKS.get(found.format, found.magic)
    match = re.compile(magic).search(data, after) if magic and after else None
    return match.start() if match else 0


def mended(whole_file: bytes, found: Found) -> bytes:
    """The file from its first byte of audio on, with the sizes that FFmpeg needs where a writer that cannot seek back left
    them open; without what a radio station put between the frames."""
    data = whole_file[found.start :]
    if found.format in ("MP3", "AAC"):
        headers = _WEB_HEADERS.match(whole_file)
        return _without_titles(data, found.start - (headers.end() if headers else 0))
    kind = "rifx" if data.startswith(b"RIFX") else found.demuxer
    if kind not in _OPEN_SIZES:
        return data
    pattern, order, whole = _OPEN_SIZES[kind]
    match = _found(pattern, data, 0)
    if match is None:
        return data
    head = bytearray(data[: match.end()])
    begin = match.start() if kind == "w64" else match.end()  # W64 counts the chunk's header
    head[match.start(1) :] = (len(data) - begin).to_bytes(match.end() - match.start(1), order)
    if whole.stop:
        head[whole] = len(data).to_bytes(whole.stop - whole.start, order)
    if data.startswith((b"RF64", b"BW64")) and not any(data[_RF64_SIZE]):
        head[:4] = b"RIFF"  # whose size stands where the pattern found it
    return bytes(head) + data[match.end() :]


def _without_titles(dump: bytes, skipped: int) -> bytes:
    """Recordings of web radio, without the block that stands behind each so many bytes of audio (SHOUTcast's metadata).

    A block is a byte that counts what follows in units of 16 bytes. `skipped`: bytes of the recording in front of `dump`.
    """
    at = dump.find(b"StreamTitle=", 0, _HEADER_BYTES) - 1
    step = skipped + at
    blocks: list[slice] = []
    while 0 <= at < len(dump):
        size = 1 + 16 * dump[at]
        if size > 1 and not dump.startswith(b"StreamTitle=", at + 1):  # a single block: the rest is audio
            blocks = [block for block in blocks if block.stop - block.start > 1]
            break
        blocks.append(slice(at, at + size))
        at += size + step
    begins, ends = [0, *(block.stop for block in blocks)], [*(block.start for block in blocks), len(dump)]
    return b"".join(dump[begin:end] for begin, end in zip(begins, ends, strict=True)) if blocks else dump
