"""What people have in their libraries is heard as players play it: every container, joined files, radio, many streams."""

import io
import struct
from collections.abc import Callable
from typing import Any

import av
import mutagen.flac
import mutagen.id3
import mutagen.mp4
import numpy as np
import pytest

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Recording
from tests import audio_samples as samples_of

ID3: Any = mutagen.id3  # half typed
FLAC: Any = mutagen.flac
MP4: Any = mutagen.mp4
SECONDS = 6.0
SONG = samples_of.song(SECONDS, seed=8)
LIMITS = DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)
SPEC = WindowSpec(16_000, 16_000 * 2)


def heard(data: bytes) -> Recording:
    """Decoded whole; and opened, which must give the same length."""
    whole = load_recording(data, WindowRequest(SPEC, 100), LIMITS)
    opened = load_recording(data, WindowRequest(SPEC, 100, take=0), LIMITS)
    assert opened.seconds == pytest.approx(whole.seconds, abs=0.1)
    return whole


def assert_whole(data: bytes, seconds: float = SECONDS) -> None:
    recording = heard(data)
    assert recording.seconds == pytest.approx(seconds, abs=0.12)  # padding of the codecs
    assert recording.warnings == ()
    assert len(recording.windows) == round(seconds / 2)


def made(muxer: str, codec: str, rate_hz: int = samples_of.RATE_HZ, channels: int = 2) -> bytes:
    samples = SONG if rate_hz == samples_of.RATE_HZ else samples_of.song(SECONDS, rate_hz, seed=8)
    return samples_of.container(samples[:, :channels], muxer, codec, rate_hz)


MADE: dict[str, tuple[str, str, int, int]] = {
    "WavPack": ("wv", "wavpack", 44_100, 2),
    "True Audio": ("tta", "tta", 44_100, 2),
    "WMA 1": ("asf", "wmav1", 44_100, 2),
    "WMA 2": ("asf", "wmav2", 44_100, 2),
    "AC3": ("ac3", "ac3", 44_100, 2),
    "Enhanced AC3": ("eac3", "eac3", 48_000, 2),
    "AC3 in WAV": ("wav", "ac3", 48_000, 2),
    "MP2": ("mp2", "mp2", 44_100, 2),
    "AAC in LATM": ("latm", "aac", 44_100, 2),
    "AAC in a transport stream": ("mpegts", "aac", 44_100, 2),
    "MP2 in a transport stream": ("mpegts", "mp2", 48_000, 2),
    "MP2 in a program stream": ("mpeg", "mp2", 48_000, 2),
    "AC3 on a DVD": ("vob", "ac3", 48_000, 2),
    "MP3 in AVI": ("avi", "libmp3lame", 44_100, 2),
    "PCM in AVI": ("avi", "pcm_s16le", 44_100, 2),
    "MP3 in Flash video": ("flv", "libmp3lame", 44_100, 2),
    "AAC in Flash video": ("flv", "aac", 44_100, 2),
    "Nellymoser": ("flv", "nellymoser", 22_050, 1),
    "RealAudio": ("rm", "ac3", 44_100, 2),
    "NUT": ("nut", "ac3", 48_000, 2),
    "VOC": ("voc", "pcm_s16le", 44_100, 2),
    "AU": ("au", "pcm_mulaw", 8_000, 1),
    "SoX": ("sox", "pcm_s32le", 44_100, 2),
    "WavPack in Matroska": ("matroska", "wavpack", 44_100, 2),
    "64-bit WAV": ("wav", "pcm_s64le", 44_100, 2),
}


@pytest.mark.parametrize("name", MADE)
def test_every_container(name: str) -> None:
    assert_whole(made(*MADE[name]))


def dsf() -> bytes:
    """A tone of one bit at 2.8 MHz: the sign of a first-order error feedback."""
    rate_hz, block = 2_822_400, 4096
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate_hz // 2) / rate_hz)
    total = np.floor((np.cumsum(wanted) + np.arange(1, wanted.size + 1)) / 2)
    bits = np.packbits(np.diff(total, prepend=0).astype(np.uint8), bitorder="little").tobytes()
    bits = bits.ljust(-(-len(bits) // block) * block, b"\x69")
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, rate_hz, 1, wanted.size, block, 0)
    data = struct.pack("<4sQ", b"data", 12 + len(bits)) + bits
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(form) + len(data), 0) + form + data


def svx() -> bytes:
    samples = (samples_of.tone(rate_hz=16_000, channels=1)[:, 0] * 127).astype(np.int8).tobytes()
    header = b"VHDR" + struct.pack(">IIIIHBBI", 20, len(samples), 0, 0, 16_000, 1, 0, 65536)
    body = b"BODY" + struct.pack(">I", len(samples)) + samples
    return b"FORM" + struct.pack(">I", 4 + len(header) + len(body)) + b"8SVX" + header + body


@pytest.mark.parametrize(("make", "seconds"), [(dsf, 0.5), (svx, 2.0)])
def test_a_tone_in_containers_made_by_hand(make: Callable[[], bytes], seconds: float) -> None:
    recording = load_recording(make(), WindowRequest(SPEC, 1), LIMITS)
    assert recording.seconds == pytest.approx(seconds, abs=0.03)
    assert recording.warnings == ()
    (window,) = recording.windows
    middle = window.samples[2000:6000]
    assert float(np.abs(np.fft.rfft(middle)).argmax() * 16_000 / middle.size) == pytest.approx(440, abs=4)
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(0.354, rel=0.1)


def ape(frames: int = 5, frame_samples: int = 73_728) -> bytes:
    """Monkey's Audio of frames that are marked as silent."""
    frame = struct.pack("<III", 0x80000000, 3, 0)
    descriptor = struct.pack("<4sHHIIIIIII16s", b"MAC ", 3990, 0, 52, 24, 4 * frames, 0, frames * len(frame), 0, 0, b"")
    header = struct.pack("<HHIIIHHI", 1000, 0, frame_samples, frame_samples, frames, 16, 2, 44_100)
    begin = len(descriptor) + len(header) + 4 * frames
    table = struct.pack(f"<{frames}I", *(begin + index * len(frame) for index in range(frames)))
    return descriptor + header + table + frames * frame


def test_monkeys_audio() -> None:
    recording = load_recording(ape(), WindowRequest(SPEC, 100), LIMITS)
    assert recording.seconds == pytest.approx(5 * 73_728 / 44_100, abs=0.01)
    assert (recording.windows, recording.format, recording.warnings) == ((), "Monkey's Audio", ())


JOINED: dict[str, Callable[[], bytes]] = {
    "wav": lambda: samples_of.wav(SONG),
    "mp3 in wav": lambda: made("wav", "libmp3lame"),
    "w64": lambda: samples_of.encode(SONG, "W64", "PCM_16"),
    "aiff": lambda: samples_of.aiff(SONG),
    "caf": lambda: samples_of.encode(SONG, "CAF", "PCM_16"),
    "m4a": lambda: samples_of.m4a(SONG),
    "flv": lambda: made("flv", "libmp3lame"),
    "wma": lambda: made("asf", "wmav2"),
    "tta": lambda: made("tta", "tta"),
    "wavpack": lambda: made("wv", "wavpack"),
    "matroska": lambda: made("matroska", "flac"),
    "flac": lambda: samples_of.flac(SONG),
    "transport stream": lambda: made("mpegts", "aac"),
}


@pytest.mark.parametrize("name", JOINED)
def test_three_joined_files_are_heard_whole(name: str) -> None:
    assert_whole(JOINED[name]() * 3, 3 * SECONDS)


@pytest.mark.parametrize("name", ["wav", "aiff", "m4a", "aac"])
def test_joined_files_of_other_rates_and_channels(name: str) -> None:
    other = getattr(samples_of, name)(samples_of.song(SECONDS, 22_050, 1), rate_hz=22_050)
    assert heard(getattr(samples_of, name)(SONG) + other).seconds == pytest.approx(2 * SECONDS, abs=0.3)


def test_more_joined_files_than_are_heard_are_warned_of() -> None:
    recording = heard(samples_of.wav(SONG[: len(SONG) // 10]) * 40)
    assert recording.seconds == pytest.approx(33 * SECONDS / 10, abs=0.3)
    assert [warning.code for warning in recording.warnings] == ["truncated"]


def test_what_cannot_be_opened_behind_a_file_does_not_matter() -> None:
    assert_whole(samples_of.wav(SONG) + b"RIFF\0\0\0\0WAVE" + bytes(100))


def opened(data: bytes, chunk: bytes, size: bytes) -> bytes:
    at = data.find(chunk) + len(chunk)
    return data[:at] + size + data[at + len(size) :]


PIPED: dict[str, Callable[[], bytes]] = {
    "w64": lambda: opened(
        opened(samples_of.encode(SONG, "W64", "PCM_16"), bytes.fromhex("a5d628db04c10000"), b"\xff" * 8),
        b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"),
        b"\xff" * 7 + b"\x7f",
    ),
    "caf": lambda: opened(samples_of.encode(SONG, "CAF", "PCM_16"), b"data", b"\xff" * 8),
    "mp3 in wav": lambda: opened(made("wav", "libmp3lame"), b"data", b"\xff" * 4),
    "flac in wav": lambda: opened(made("wav", "flac"), b"data", b"\xff" * 4),
}


@pytest.mark.parametrize("name", PIPED)
def test_sizes_that_a_pipe_left_open(name: str) -> None:
    assert_whole(PIPED[name]())


def web_radio(audio: bytes, step: int) -> bytes:
    """SHOUTcast's metadata behind each `step` bytes: a title now and then, mostly none."""
    title = b"StreamTitle='Margaux Delatour - Le vent';".ljust(48, b"\0")
    parts = [audio[at : at + step] for at in range(0, len(audio), step)]
    titles = [b"\3" + title if index % 4 == 0 else b"\0" for index in range(len(parts) - 1)]
    return b"".join(part + after for part, after in zip(parts, [*titles, b""], strict=True))


@pytest.mark.parametrize("step", [4096, 8192, 16_000, 60_000])
@pytest.mark.parametrize("name", ["mp3", "aac"])
def test_recorded_web_radio(name: str, step: int) -> None:
    audio = getattr(samples_of, name)(SONG)
    assert_whole(web_radio(audio, step))
    assert_whole(web_radio(audio[300:], step))


FROM_THE_MIDDLE = {"ac3": ("ac3", "ac3"), "transport stream": ("mpegts", "mp2"), "program stream": ("mpeg", "mp2")}


@pytest.mark.parametrize("name", FROM_THE_MIDDLE)
def test_streams_are_heard_from_the_middle(name: str) -> None:
    data = made(*FROM_THE_MIDDLE[name], 48_000)
    assert heard(data[len(data) // 3 + 7 :]).seconds == pytest.approx(4.0, abs=0.2)


def test_flac_without_its_beginning() -> None:
    data = samples_of.flac(SONG)
    assert heard(data[len(data) // 3 :]).seconds == pytest.approx(4.0, abs=0.3)


def test_aac_of_mpeg_2_is_no_flac() -> None:
    data = bytearray(samples_of.aac(SONG))
    at = 0
    while at < len(data):
        data[at + 1] = 0xF9
        at += (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    assert heard(bytes(data)).format == "AAC"
    assert_whole(bytes(data))


CUT = {"avi": ("avi", "libmp3lame"), "wma": ("asf", "wmav2"), "flv": ("flv", "libmp3lame"), "au": ("au", "pcm_s16be"),
       "wavpack": ("wv", "wavpack"), "tta": ("tta", "tta"), "mp3 in wav": ("wav", "libmp3lame")}  # fmt: skip


@pytest.mark.parametrize("share", [0.31, 0.5, 0.9])
@pytest.mark.parametrize("name", CUT)
def test_files_that_are_cut_off(name: str, share: float) -> None:
    recording = heard(samples_of.cut(made(*CUT[name]), share))
    assert [warning.code for warning in recording.warnings] == ["truncated"]
    assert recording.seconds == pytest.approx(SECONDS * share, abs=1.2)


@pytest.mark.parametrize("muxer", ["mpegts", "asf", "avi", "wv"])
def test_zeros_behind_the_end_are_no_damage(muxer: str) -> None:
    codec = {"asf": "wmav2", "wv": "wavpack"}.get(muxer, "mp2")
    assert_whole(made(muxer, codec) + bytes(5000))


def two_streams(empty: bool = False, default: int = 0) -> bytes:
    """A tone of 2 s, or nothing, and the song."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        parts: list[Any] = [samples_of.tone() if not empty else None, SONG]
        streams: list[Any] = [file.add_stream("pcm_s16le", rate=samples_of.RATE_HZ, layout="stereo") for _ in parts]
        streams[default].disposition = av.stream.Disposition.default
        streams[1 - default].disposition = av.stream.Disposition(0)
        for stream, samples in zip(streams, parts, strict=True):
            if samples is not None:
                values = (samples * 32767).astype(np.int16).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(values, format="s16", layout="stereo")
                frame.sample_rate = samples_of.RATE_HZ
                frame.pts = 0
                file.mux(stream.encode(frame))
                file.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("empty", "default", "seconds"), [(False, 0, 2.0), (False, 1, SECONDS), (True, 0, SECONDS), (True, 1, SECONDS)]
)
def test_the_default_stream_that_holds_sound_is_heard(empty: bool, default: int, seconds: float) -> None:
    assert_whole(two_streams(empty, default), seconds)


def with_picture(name: str) -> bytes:
    """A picture of five megabytes in front of the sound."""
    file, picture = io.BytesIO(getattr(samples_of, name)(SONG)), samples_of.random_bytes(5_000_000)
    tags: Any
    if name == "mp3":
        tags = ID3.ID3()
        tags.add(ID3.APIC(mime="image/png", data=picture))
    elif name == "flac":
        tags, block = FLAC.FLAC(file), FLAC.Picture()
        block.mime, block.data = "image/png", picture
        tags.add_picture(block)
    else:
        tags = MP4.MP4(file)
        tags["covr"] = [MP4.MP4Cover(picture, MP4.MP4Cover.FORMAT_PNG)]
    file.seek(0)
    tags.save(file)
    return file.getvalue()


@pytest.mark.parametrize("name", ["mp3", "flac", "m4a"])
def test_files_with_a_picture(name: str) -> None:
    assert_whole(with_picture(name))


def test_quicktime_that_begins_with_its_samples() -> None:
    """Old cameras write no `ftyp`, and the index last: it is no second file."""
    data = samples_of.container(SONG, "mov", "pcm_s16be")
    data = data[int.from_bytes(data[:4], "big") :]
    assert data[4:8] in (b"wide", b"mdat")
    shifted = data.find(b"stco") + 12
    chunks = int.from_bytes(data[shifted - 4 : shifted], "big")
    moved = [int.from_bytes(data[shifted + 4 * at : shifted + 4 * at + 4], "big") - 20 for at in range(chunks)]
    assert_whole(data[:shifted] + struct.pack(f">{chunks}I", *moved) + data[shifted + 4 * chunks :])
