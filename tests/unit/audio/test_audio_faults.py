"""Cut off, or damaged on the way: each is told for what it is, also where no header states a length."""

import random
import struct
from collections.abc import Callable

import numpy as np
import pytest

from app.audio.decode import load_recording
from app.audio.sniff import sniff
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Recording
from app.errors import AudioUnknownFormat
from tests import audio_samples as samples_of

SONG = samples_of.song(12, 48_000, seed=5)
LIMITS = DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)
ID3V1 = b"TAG" + bytes(125)


def opened(data: bytes) -> Recording:
    return load_recording(data, WindowRequest(WindowSpec(16_000, 16_000), 1, take=0), LIMITS)


def made(muxer: str, codec: str, **options: str) -> Callable[[], bytes]:
    return lambda: samples_of.container(SONG, muxer, codec, 48_000, **options)


OPEN: dict[str, Callable[[], bytes]] = {
    "webm, recorded live": made("webm", "libopus", live="1"),
    "matroska, recorded live": made("matroska", "flac", live="1"),
    "flv": made("flv", "aac", flvflags="no_duration_filesize"),
    "flv with MP3": lambda: samples_of.container(samples_of.song(12), "flv", "libmp3lame", flvflags="no_duration_filesize"),
    "transport stream": made("mpegts", "aac"),
    "ac3": made("ac3", "ac3"),
    "eac3": made("eac3", "eac3"),
    "latm": made("latm", "aac"),
}


@pytest.mark.parametrize("behind", [b"", ID3V1])
@pytest.mark.parametrize("name", OPEN)
def test_the_end_of_a_file_that_states_no_length(name: str, behind: bytes) -> None:
    data = OPEN[name]()
    whole = opened(data + (b"" if name.startswith("flv") else behind))  # of FLV, FFmpeg takes the length from the last bytes
    assert whole.warnings == ()
    assert whole.seconds == pytest.approx(12.0, abs=0.1)
    for more in (11, 100, 200):
        half = opened(data[: len(data) // 2 + more])
        assert [warning.code for warning in half.warnings] == ["truncated"]
        assert half.seconds == pytest.approx(6.0, abs=1.0)


@pytest.mark.parametrize("fill", ["zeros", "noise"])
@pytest.mark.parametrize(("muxer", "codec"), [("webm", "libopus"), ("matroska", "ac3"), ("nut", "flac")])
def test_packets_lost_on_the_way_are_damage(muxer: str, codec: str, fill: str) -> None:
    data = made(muxer, codec)()
    begin, size = len(data) // 2, len(data) // 8
    lost = bytes(size) if fill == "zeros" else random.Random(3).randbytes(size)
    (warning,) = opened(data[:begin] + lost + data[begin + size :]).warnings
    assert warning.code == "damaged"
    assert warning.at_seconds == pytest.approx(6.0, abs=3.0)


def test_frames_lost_from_an_mp3_whose_bytes_all_came_are_damage() -> None:
    data = samples_of.mp3(samples_of.song(12))
    begin, size = len(data) // 2, len(data) // 8
    assert [one.code for one in opened(data[:begin] + bytes(size) + data[begin + size :]).warnings] == ["damaged"]
    assert [one.code for one in opened(data[:-size]).warnings] == ["truncated"]


def test_sizes_that_a_pipe_leaves_in_rf64_and_rifx() -> None:
    rf64 = bytearray(samples_of.encode(SONG, "RF64", "PCM_16", 48_000))
    rf64[20:44] = bytes(24)
    assert opened(bytes(rf64)).seconds == pytest.approx(12.0, abs=0.01)
    samples = np.full(2 * 48_000 * 2, 0x1234, ">i2").tobytes()
    for size in (len(samples), 0, 0xFFFFFFFF):
        form = struct.pack(">4sIHHIIHH", b"fmt ", 16, 1, 2, 48_000, 192_000, 4, 16) + struct.pack(">4sI", b"data", size)
        rifx = b"RIFX" + struct.pack(">I", size) + b"WAVE" + form + samples
        assert opened(rifx).seconds == pytest.approx(2.0, abs=0.01)
        assert opened(rifx).warnings == ()


def test_web_radio_saved_with_its_headers() -> None:
    audio, title = samples_of.mp3(samples_of.song(12)), b"\x02" + b"StreamTitle='A - B';".ljust(32, b"\0")
    blocks = (title if at == 0 else b"\0" for at in range(0, len(audio), 8192))
    dump = b"".join(audio[8192 * at : 8192 * at + 8192] + block for at, block in enumerate(blocks))
    recording = opened(b"ICY 200 OK\r\nicy-metaint:8192\r\n\r\n" + dump)
    assert recording.seconds == pytest.approx(12.0, abs=0.1)
    assert recording.warnings == ()


def test_a_tag_longer_than_the_file_is_passed() -> None:
    assert opened(b"ID3\x03\0\0\x7f\x7f\x7f\x7f" + bytes(500) + samples_of.mp3()).seconds == pytest.approx(2.0, abs=0.1)


def test_the_last_packet_of_matroska_is_as_long_as_what_it_holds() -> None:
    data = samples_of.container(SONG[: 48_000 * 23 // 2], "matroska", "tta", 48_000)  # packets of 1.04 s
    assert opened(data).seconds == pytest.approx(11.5, abs=0.01)


def test_a_program_is_no_sound() -> None:
    jumps = b"".join(
        b"\xff\x25" + struct.pack("<I", n) + b"\x68" + struct.pack("<I", n) + b"\xe9\xe0\xff\xff\xff" for n in range(200)
    )
    with pytest.raises(AudioUnknownFormat):
        sniff(b"\x7fELF" + bytes(4092) + jumps + bytes(4096))
