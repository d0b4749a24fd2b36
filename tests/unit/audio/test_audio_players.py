"""Every file that a player plays is heard, whole: joined, from a pipe, begun anywhere, tagged at either end."""

import io
import random
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Recording
from app.errors import AudioUnknownFormat
from tests import audio_samples as samples_of

SONG = samples_of.song(12, seed=5)
SHORT = samples_of.song(7, seed=6)
LIMITS = DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)
SPEC = WindowSpec(16_000, 16_000 * 5)
ID3 = b"ID3\x03\0\0\0\0\x07\x76" + b"TIT2\0\0\0\x05\0\0\0abcd" + bytes(1014 - 15)
ID3V1 = b"TAG" + bytes(125)
LYRICS3 = b"LYRICSBEGININD0000200000021LYRICS200"


def ape_tag() -> bytes:
    item = struct.pack("<II", 4, 0) + b"Title\0abcd"
    head, foot = (
        struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(item) + 32, 1, flags) for flags in (0xA0000000, 0x80000000)
    )
    return head + item + foot


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def heard(data: bytes) -> Recording:
    """Decoded whole; and opened, which must give the same length."""
    whole = load_recording(data, WindowRequest(SPEC, 100), LIMITS)
    opened = load_recording(data, WindowRequest(SPEC, 100, take=0), LIMITS)
    assert opened.seconds == pytest.approx(whole.seconds, abs=0.06)
    return whole


def assert_whole(data: bytes, seconds: float = 12.0) -> None:
    recording = heard(data)
    assert recording.seconds == pytest.approx(seconds, abs=0.12)  # padding of the codecs
    assert recording.warnings == ()
    assert recording.windows[0].start_seconds < 0.1
    last = recording.windows[-1]
    assert last.start_seconds + last.seconds == pytest.approx(seconds, abs=0.2)


MP3, MP3_SHORT = samples_of.mp3(SONG), samples_of.mp3(SHORT)
NO_XING = MP3[417:] if b"Xing" in MP3[:200] or b"Info" in MP3[:200] else MP3


def with_xing(frames: int) -> bytes:
    at = max(MP3.find(b"Xing"), MP3.find(b"Info")) + 8
    return MP3[:at] + struct.pack(">I", frames) + MP3[at + 4 :]


MP3S: dict[str, Callable[[], bytes]] = {
    "no VBR header": lambda: NO_XING,
    "0 frames promised": lambda: with_xing(0),
    "one frame promised": lambda: with_xing(1),
    "the header's own frame counted": lambda: with_xing(int.from_bytes(MP3[MP3.find(b"Xing") + 8 :][:4], "big") + 1),
    "zeros in front": lambda: bytes(5000) + MP3,
    "noise in front": lambda: random.Random(1).randbytes(3000) + NO_XING,
    "half a frame in front": lambda: NO_XING[100:],
    "ID3 too short": lambda: ID3[:6] + b"\0\0\x03\0" + ID3[10:] + MP3,
    "ID3 a little too long": lambda: ID3[:6] + b"\0\0\x08\0" + ID3[10:] + NO_XING,
    "two ID3": lambda: ID3 + ID3 + MP3,
    "APE in front": lambda: ape_tag() + MP3,
    "APE behind": lambda: MP3 + ape_tag(),
    "APE and ID3v1 behind": lambda: MP3 + ape_tag() + ID3V1,
    "lyrics behind": lambda: MP3 + LYRICS3 + ID3V1,
    "zeros behind": lambda: MP3 + bytes(3000),
}


@pytest.mark.parametrize("name", MP3S)
def test_mp3(name: str) -> None:
    assert_whole(MP3S[name]())


OTHERS: dict[str, Callable[[], bytes]] = {
    "aac from half a frame": lambda: samples_of.aac(SONG)[100:],
    "aac with tags": lambda: ID3 + samples_of.aac(SONG) + ape_tag() + ID3V1,
    "aac behind zeros": lambda: bytes(2000) + samples_of.aac(SONG),
    "m4a and ID3v1": lambda: samples_of.m4a(SONG) + ID3V1,
    "m4a and zeros": lambda: samples_of.m4a(SONG) + bytes(3000),
    "m4a, tag with wrong boxes": lambda: samples_of.m4a(SONG) + ape_tag(),
    "mp4 behind skip": lambda: box(b"skip", bytes(500)) + fragmented(),
    "mp4 behind free": lambda: box(b"free", b"") + fragmented(),
    "flac behind ID3": lambda: ID3 + samples_of.flac(SONG) + ID3V1,
    "flac behind ID3 that is too long": lambda: ID3[:-14] + samples_of.flac(SONG),
    "flac from a pipe": lambda: unstated(samples_of.flac(SONG)),
    "mp3 in wav": lambda: samples_of.container(SONG, "wav", "libmp3lame"),
    "wav behind ID3": lambda: ID3 + samples_of.wav(SONG),
    "wav and more chunks": lambda: samples_of.wav(SONG) + b"LIST\x04\0\0\0INFOid3 \x64\0\0\0" + bytes(100),
    "ogg behind noise": lambda: b"abc" * 100 + samples_of.vorbis(SONG),
    "ogg and zeros": lambda: samples_of.vorbis(SONG) + bytes(3000),
}


def fragmented() -> bytes:
    return samples_of.container(SONG, "mp4", "aac", movflags="frag_keyframe+empty_moov+default_base_moof")


def unstated(flac: bytes) -> bytes:
    """No number of samples in the header, as from a writer that cannot seek back."""
    packed = int.from_bytes(flac[18:26], "big")
    return flac[:18] + (packed >> 36 << 36).to_bytes(8, "big") + flac[26:]


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats(name: str) -> None:
    assert_whole(OTHERS[name]())


JOINED: dict[str, Callable[[], bytes]] = {
    "mp3": lambda: MP3 + MP3_SHORT,
    "mp3 with tags between": lambda: ID3 + MP3 + ID3V1 + ID3 + MP3_SHORT,
    "mp3 of other channels": lambda: MP3 + samples_of.mp3(SHORT[:, :1]),
    "mp3 of another rate": lambda: MP3 + samples_of.mp3(samples_of.song(7, 22_050), 22_050),
    "aac": lambda: samples_of.aac(SONG) + samples_of.aac(SHORT),
    "vorbis": lambda: samples_of.vorbis(SONG) + samples_of.vorbis(SHORT),
    "vorbis of other channels": lambda: samples_of.vorbis(SONG) + samples_of.vorbis(SHORT[:, :1]),
    "vorbis of another rate": lambda: samples_of.vorbis(SONG) + samples_of.vorbis(samples_of.song(7, 48_000), 48_000),
    "opus": lambda: samples_of.opus(samples_of.song(12, 48_000)) + samples_of.opus(samples_of.song(7, 48_000)),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_go_on(name: str) -> None:
    assert_whole(JOINED[name](), 19.0)


def test_a_chain_of_other_channels_is_heard_once_and_whole() -> None:
    long, short = samples_of.vorbis(SONG), samples_of.vorbis(SHORT[:, :1])
    assert_whole(long + short + long, 31.0)
    assert_whole(random.Random(2).randbytes(300) + long + short + long, 31.0)


@pytest.mark.parametrize("name", ["wav", "aiff"])
def test_a_header_that_says_too_little_or_too_much_of_pcm(name: str) -> None:
    data = getattr(samples_of, name)(SONG)
    assert_whole(data + b"LIST\x04\0\0\0INFO")
    recording = heard(data[: len(data) // 2])
    assert recording.seconds == pytest.approx(6.0, abs=0.01)
    assert [warning.code for warning in recording.warnings] == ["truncated"]


WAVS = ["ALAW", "DOUBLE", "FLOAT", "GSM610", "IMA_ADPCM", "MS_ADPCM", "PCM_24", "PCM_32", "PCM_U8", "ULAW"]


@pytest.mark.parametrize("subtype", WAVS)
def test_wav_of_every_kind(subtype: str) -> None:
    mono_8_khz = subtype == "GSM610"
    samples = samples_of.song(12, 8_000, 1) if mono_8_khz else SONG
    assert_whole(samples_of.encode(samples, "WAV", subtype, 8_000 if mono_8_khz else samples_of.RATE_HZ))


@pytest.mark.parametrize(
    ("container", "subtype"), [("RF64", "PCM_16"), ("W64", "PCM_16"), ("WAVEX", "PCM_24"), ("CAF", "ALAC_16")]
)
def test_relatives_of_wav(container: str, subtype: str) -> None:
    assert_whole(samples_of.encode(SONG, container, subtype))


@pytest.mark.parametrize("subtype", ["ALAW", "DOUBLE", "FLOAT", "IMA_ADPCM", "PCM_24", "PCM_32", "PCM_S8", "ULAW"])
def test_aiff_of_every_kind(subtype: str) -> None:
    samples = SONG[:, :1] if subtype == "IMA_ADPCM" else SONG
    assert_whole(samples_of.encode(samples, "AIFF", subtype))


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("name", [b"data", b"SSND"])
def test_sizes_that_a_pipe_leaves(name: bytes, size: int) -> None:
    order = "<I" if name == b"data" else ">I"
    data = bytearray(samples_of.wav(SONG) if name == b"data" else samples_of.aiff(SONG))
    at = data.find(name) + 4
    data[at : at + 4] = data[4:8] = struct.pack(order, size)
    assert_whole(bytes(data))


@pytest.mark.parametrize("codec", ["libopus", "pcm_s16le"])
def test_time_begins_at_the_first_sample(codec: str) -> None:
    """Stamps that begin at 5:00, as a recorder in a page gives them."""
    rate_hz = 48_000
    plain = samples_of.container(samples_of.song(12, rate_hz), "matroska", codec, rate_hz)
    assert_whole(samples_of.remuxed(plain, "matroska", later_seconds=300))


def test_an_ogg_that_was_cut_out_of_a_longer_one() -> None:
    """Its positions begin at an hour."""
    out = bytearray(samples_of.opus(samples_of.song(12, 48_000)))
    at = out.find(b"OggS")
    while at >= 0:
        position = int.from_bytes(out[at + 6 : at + 14], "little", signed=True)
        if position > 0:
            out[at + 6 : at + 14] = (position + 3600 * 48_000).to_bytes(8, "little")
            end = out.find(b"OggS", at + 4)
            page = bytes(out[at : end if end > 0 else len(out)])
            out[at + 22 : at + 26] = samples_of.ogg_checksum(page)
        at = out.find(b"OggS", at + 4)
    assert_whole(bytes(out))


NOT_READ = {
    "OptimFROG": b"OFR " + bytes(1000),
    "OptimFROG came": b"OFR " + samples_of.wav()[:1000],  # it keeps the header of the WAV that it was made from
    "MIDI": b"MThd" + bytes(1000),
    "ATRAC": b"ea3\x03" + bytes(1000),
    "True Audio 2": b"TTA2" + bytes(1000),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_read_is_refused_by_name(name: str) -> None:
    with pytest.raises(AudioUnknownFormat, match=name):
        load_recording(NOT_READ[name], WindowRequest(SPEC, 1), LIMITS)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "vorbis"])
def test_channels_that_cancel_each_other_are_no_silence(name: str) -> None:
    stereo = samples_of.song(8, seed=3, channels=1).repeat(2, axis=1) * np.array([1.0, -1.0], np.float32)
    recording = load_recording(getattr(samples_of, name)(stereo), WindowRequest(SPEC, 4), LIMITS)
    assert len(recording.windows) == 2
    for window in recording.windows:
        assert float(np.sqrt(np.mean(window.samples**2))) == pytest.approx(0.28, rel=0.1)


@pytest.mark.parametrize("name", ["wav", "aiff", "flac", "mp3", "vorbis", "opus", "m4a", "aac"])
def test_a_window_is_the_same_sought_or_decoded_from_the_start(name: str) -> None:
    rate_hz = 48_000 if name == "opus" else 44_100
    data = getattr(samples_of, name)(samples_of.song(40, rate_hz, 1), rate_hz=rate_hz)
    whole = load_recording(data, WindowRequest(WindowSpec(16_000, 16_000 * 40), 1), LIMITS).windows[0]
    spec = WindowSpec(16_000, 16_000 * 5, positions=(0.5, 0.3, 0.7))
    for window in load_recording(data, WindowRequest(spec, 3), LIMITS).windows:
        start = round(window.start_seconds * 16_000) - round(whole.start_seconds * 16_000)
        differences = window.samples - whole.samples[start : start + 16_000 * 5]
        assert float(np.sqrt(np.mean(differences**2))) < 1e-3  # AAC fills bands with noise of its own


def test_soundfile_agrees_on_the_samples_of_an_mp3() -> None:
    own, rate_hz = soundfile.read(io.BytesIO(MP3), dtype="float32")
    window = load_recording(MP3, WindowRequest(WindowSpec(rate_hz, rate_hz * 5), 100), LIMITS).windows[0]
    assert np.abs(window.samples - own.mean(1)[: window.samples.size]).max() < 2e-3
