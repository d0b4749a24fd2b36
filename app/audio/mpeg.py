"""Headers of MPEG audio frames (MP3) and ADTS frames (AAC): where a stream begins, and whether its last frame is whole.

Layouts: ISO/IEC 11172-3 §2.4.2.3, ISO/IEC 13818-3 §2.4.2.3 (half rates), ISO/IEC 14496-3 §1.A.3.2 (ADTS).
"""

from dataclasses import dataclass

_BITRATES_KBPS = {  # by (MPEG-1?, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version bits
_ADTS_RATES = 13  # indices of sample rates that mean something
_ADTS_HEADER_BYTES = 7
_TAGS = (b"TAG", b"APETAGEX", b"ID3", b"LYRICSBEGIN")  # may follow a frame
_CHAIN_FRAMES = 3  # so many frames of one kind in a row are no coincidence where they are expected
_FAR_CHAIN_FRAMES = 6  # nor so many anywhere in a file; programs hold shorter chains


@dataclass(frozen=True, slots=True)
class Frame:
    """Size and kind of a frame, from its header."""

    bytes: int
    kind: tuple[int, int]  # equal for all frames of one stream
    layer: int  # of MPEG audio; 0: ADTS


def frame_at(data: bytes, at: int) -> Frame | None:
    """The frame header at byte `at`, or None when there is none."""
    head = data[at : at + _ADTS_HEADER_BYTES]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    return _adts_frame(head) if head[1] & 0x06 == 0 else _mpeg_frame(head)


def _mpeg_frame(head: bytes) -> Frame | None:
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate_index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or rate_index == 3 or bitrate_index in (0, 15):  # FFmpeg does not read free format
        return None
    bits_per_second = _BITRATES_KBPS[version == 3, layer][bitrate_index] * 1000
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    slot_bytes = 4 if layer == 1 else 1
    size = (samples // 8 // slot_bytes * bits_per_second // _RATES_HZ[version][rate_index] + padding) * slot_bytes
    return Frame(size, (head[1] & 0xFE, rate_index), layer)


def _adts_frame(head: bytes) -> Frame | None:
    if len(head) < _ADTS_HEADER_BYTES or head[1] & 0xF0 != 0xF0:
        return None
    size, rate_index = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5, head[2] >> 2 & 15
    if size <= _ADTS_HEADER_BYTES or rate_index >= _ADTS_RATES:
        return None
    return Frame(size, (head[1] & 0xF6, rate_index), layer=0)


def find_frames(data: bytes, start: int, stop: int) -> tuple[int, Frame] | None:
    """The first byte from `start` on where frames follow each other, and the first of them; None if none before `stop`."""
    at = data.find(b"\xff", start, stop)
    while at >= 0:
        first = frame_at(data, at)
        if first is not None and _is_chain(data, at, first, here=at == start):
            return at, first
        at = data.find(b"\xff", at + 1, stop)
    return None


def _is_chain(data: bytes, at: int, first: Frame, *, here: bool) -> bool:
    """Whether enough frames of one kind follow each other, or fewer up to the end of the file or a tag; `here`: expected."""
    if first.layer == 1 and not here:  # jump tables of programs look like it
        return False
    least, enough = (1, _CHAIN_FRAMES) if here else (2, _FAR_CHAIN_FRAMES)
    frame: Frame | None = first
    for count in range(enough):
        if frame is None or frame.kind != first.kind:
            return count >= least and (at >= len(data) - 4 or data.startswith(_TAGS, at))
        at += frame.bytes
        frame = frame_at(data, at)
    return True
