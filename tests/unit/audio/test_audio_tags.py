"""Tags of every kind are read with the audio, whatever carries them; damaged ones are none."""

import io
import json
import struct
from collections.abc import Callable
from typing import Any

import av
import mutagen.aiff
import mutagen.apev2
import mutagen.flac
import mutagen.id3
import mutagen.mp4
import mutagen.oggopus
import mutagen.oggvorbis
import mutagen.wave
import numpy as np
import pytest

from app.audio.decode import load_recording
from app.audio.process import read_answer
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.audio.tags import read_tags
from app.audio.worker import described
from app.domain import Metadata
from tests import audio_samples as samples_of

ID3: Any = mutagen.id3  # half typed
APE: Any = mutagen.apev2
LIMITS = DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)
TAGS = Metadata(artist="Margaux Delatour", album="Les chansons du dimanche", title="Où va le vent d'été")
VORBIS = {"ARTIST": TAGS.artist, "ALBUM": TAGS.album, "Title": TAGS.title}


def tags_of(data: bytes) -> Metadata | None:
    request = WindowRequest(WindowSpec(16_000, 16_000), 1, take=0, read_tags=True)
    return load_recording(data, request, LIMITS).tags


def id3(version: int = 4, encoding: int = 3) -> Any:
    tags = ID3.ID3()
    tags.add(ID3.TPE1(encoding=encoding, text=[TAGS.artist]))
    tags.add(ID3.TALB(encoding=encoding, text=[TAGS.album]))
    tags.add(ID3.TIT2(encoding=encoding, text=[TAGS.title]))
    tags.add(ID3.APIC(mime="image/png", data=samples_of.png()))
    if version == 3:
        tags.update_to_v23()
    return tags


def with_id3(data: bytes, version: int = 4, encoding: int = 3) -> bytes:
    file = io.BytesIO(data)
    id3(version, encoding).save(file, v2_version=version, v1=0)
    return file.getvalue()


def plain_id3(encoding: str, artist: bytes = b"TPE1") -> bytes:
    """Text in UTF-16, as bytes."""
    frames = b""
    for name, text in ((artist, TAGS.artist), (b"TALB", TAGS.album), (b"TIT2", TAGS.title)):
        body = b"\x01" + (text or "").encode(encoding)
        frames += name + struct.pack(">IH", len(body), 0) + body
    return b"ID3\x03\0\0\0\0" + bytes([len(frames) >> 7, len(frames) & 127]) + frames + samples_of.mp3()


def with_id3v1(data: bytes) -> bytes:
    fields = [text or "" for text in (TAGS.title, TAGS.artist, TAGS.album)]
    return data + struct.pack("<3s30s30s30s4s31s", b"TAG", *(text.encode("latin-1") for text in fields), b"1999", b"")


def with_ape(data: bytes) -> bytes:
    file = io.BytesIO(data)
    tags = APE.APEv2()
    for name, text in (("ARTIST", TAGS.artist), ("Album", TAGS.album), ("Title", TAGS.title)):
        tags[name] = text
    tags.save(file)
    return file.getvalue()


def saved(data: bytes, kind: Callable[[io.BytesIO], Any], tags: dict[str, str | None]) -> bytes:
    file = io.BytesIO(data)
    opened = kind(file)
    if opened.tags is None:
        opened.add_tags()
    for name, text in tags.items():
        opened.tags[name] = [text]
    file.seek(0)
    opened.save(file)
    return file.getvalue()


def in_chunk(data: bytes, kind: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO(data)
    opened = kind(file)
    opened.add_tags()
    opened.tags.update(id3())
    file.seek(0)
    opened.save(file)
    return file.getvalue()


def riff_info(encoding: str) -> bytes:
    body = b"INFO"
    for name, text in ((b"IART", TAGS.artist), (b"IPRD", TAGS.album), (b"INAM", TAGS.title)):
        value = (text or "").encode(encoding) + b"\0"
        body += name + struct.pack("<I", len(value)) + value + bytes(len(value) % 2)
    return samples_of.wav() + b"LIST" + struct.pack("<I", len(body)) + body


def by_ffmpeg(muxer: str, codec: str, rate_hz: int = 48_000) -> bytes:
    plain = samples_of.container(samples_of.tone(rate_hz=rate_hz), muxer, codec, rate_hz)
    metadata = {"artist": TAGS.artist or "", "album": TAGS.album or "", "title": TAGS.title or ""}
    return samples_of.remuxed(plain, muxer, metadata)


MP4_TAGS = {"\xa9ART": TAGS.artist, "\xa9alb": TAGS.album, "\xa9nam": TAGS.title}
TAGGED: dict[str, Callable[[], bytes]] = {
    "mp3, ID3v2.4": lambda: with_id3(samples_of.mp3()),
    "mp3, ID3v2.3 in UTF-16": lambda: with_id3(samples_of.mp3(), 3, 1),
    "mp3, ID3v2.3 in Latin-1": lambda: with_id3(samples_of.mp3(), 3, 0),
    "mp3, ID3v2.3 in UTF-16 without its mark": lambda: plain_id3("utf-16-be"),
    "mp3, ID3v2.3 with the artist of the album alone": lambda: plain_id3("utf-16", b"TPE2"),
    "mp3, ID3v1": lambda: with_id3v1(samples_of.mp3()),
    "mp3, APEv2": lambda: with_ape(samples_of.mp3()),
    "mp3, APEv2 and ID3v1": lambda: with_ape(samples_of.mp3()) + b"TAG" + bytes(125),
    "aac, ID3v2": lambda: with_id3(samples_of.aac()),
    "aac, APEv2": lambda: with_ape(samples_of.aac()),
    "flac, Vorbis comment": lambda: saved(samples_of.flac(), mutagen.flac.FLAC, VORBIS),
    "flac, Vorbis comment behind an empty ID3": lambda: (
        b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + saved(samples_of.flac(), mutagen.flac.FLAC, VORBIS)
    ),
    "flac, ID3v2": lambda: with_id3(samples_of.flac()),
    "vorbis": lambda: saved(samples_of.vorbis(), mutagen.oggvorbis.OggVorbis, VORBIS),
    "opus": lambda: saved(samples_of.opus(), mutagen.oggopus.OggOpus, VORBIS),
    "m4a": lambda: saved(samples_of.m4a(), mutagen.mp4.MP4, MP4_TAGS),
    "m4a, and ID3v1 of another song": lambda: (
        saved(samples_of.m4a(), mutagen.mp4.MP4, MP4_TAGS) + b"TAG" + b"Other".ljust(125, b"\0")
    ),
    "wav, ID3v2": lambda: in_chunk(samples_of.wav(), mutagen.wave.WAVE),
    "wav, RIFF INFO in UTF-8": lambda: riff_info("utf-8"),
    "wav, RIFF INFO in Windows-1252": lambda: riff_info("cp1252"),
    "aiff, ID3v2": lambda: in_chunk(samples_of.aiff(), mutagen.aiff.AIFF),
    "matroska": lambda: by_ffmpeg("matroska", "flac"),
    "webm": lambda: by_ffmpeg("webm", "libopus"),
    "wma": lambda: by_ffmpeg("asf", "wmav2"),
    "avi": lambda: by_ffmpeg("avi", "libmp3lame"),
    "flv": lambda: by_ffmpeg("flv", "libmp3lame", 44_100),
    "wavpack, APEv2": lambda: with_ape(samples_of.container(samples_of.tone(), "wv", "wavpack")),
    "true audio, ID3v2": lambda: with_id3(samples_of.container(samples_of.tone(), "tta", "tta")),
    "ac3, ID3v2": lambda: with_id3(samples_of.container(samples_of.tone(), "ac3", "ac3")),
}


@pytest.mark.parametrize("name", TAGGED)
def test_tags_are_read(name: str) -> None:
    assert tags_of(TAGGED[name]()) == TAGS


@pytest.mark.parametrize("name", samples_of.WHOLE)
def test_a_file_without_tags_has_empty_ones(name: str) -> None:
    tags = tags_of(samples_of.WHOLE[name]())
    assert tags is not None
    assert tags.fields == ()


def test_the_name_of_a_track_is_no_title() -> None:
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(by_ffmpeg("matroska", "flac")), "r") as source,
        av.open(file, "w", format="matroska") as target,
    ):
        stream = target.add_stream_from_template(source.streams.audio[0])
        stream.metadata["title"] = "Stereo"
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    tags = tags_of(file.getvalue())
    assert tags is not None
    assert tags.title is None


def test_tags_are_read_only_if_asked_for() -> None:
    request = WindowRequest(WindowSpec(16_000, 16_000), 1)
    assert load_recording(with_id3(samples_of.mp3()), request, LIMITS).tags is None


def test_damaged_tags_are_none_and_the_audio_is_heard() -> None:
    data = bytearray(with_id3(samples_of.mp3()))
    data[10:60] = samples_of.random_bytes(50)
    assert tags_of(bytes(data)) is not None
    ape = bytearray(with_ape(samples_of.mp3()))
    at = ape.find(b"APETAGEX")
    ape[at + 12 : at + 20] = b"\xff" * 8
    assert tags_of(bytes(ape)) is not None


@pytest.mark.parametrize("text", ["\ud800 \udcff", "\0", "\udce9t\udce9"])
def test_any_text_can_be_sent_on(text: str) -> None:
    (read_tags(b"", {"title": text}).title or "").encode()


def test_a_field_is_bounded() -> None:
    tags = ID3.ID3()
    tags.add(ID3.TIT2(encoding=3, text=["la " * 100_000]))
    file = io.BytesIO(samples_of.mp3())
    tags.save(file)
    title = (tags_of(file.getvalue()) or Metadata()).title
    assert title is not None
    assert len(title) == 2000


SUNG = "[00:01.00]Où va le vent d'été\nquand la plage est vide"


def with_uslt(data: bytes) -> bytes:
    file = io.BytesIO(data)
    tags = ID3.ID3()
    tags.add(ID3.USLT(encoding=3, lang="eng", desc="empty", text=""))
    tags.add(ID3.USLT(encoding=1, lang="fra", desc="", text=SUNG))
    tags.save(file)
    return file.getvalue()


def with_ape_lyrics(data: bytes) -> bytes:
    file = io.BytesIO(data)
    tags = APE.APEv2()
    tags["Lyrics"] = SUNG
    tags.save(file)
    return file.getvalue()


SUNG_IN: dict[str, Callable[[], bytes]] = {
    "mp3, USLT": lambda: with_uslt(samples_of.mp3()),
    "mp3, APEv2": lambda: with_ape_lyrics(samples_of.mp3()),
    "flac, LYRICS": lambda: saved(samples_of.flac(), mutagen.flac.FLAC, {"LYRICS": SUNG}),
    "flac, UNSYNCEDLYRICS": lambda: saved(samples_of.flac(), mutagen.flac.FLAC, {"UNSYNCEDLYRICS": SUNG}),
    "vorbis": lambda: saved(samples_of.vorbis(), mutagen.oggvorbis.OggVorbis, {"LYRICS": SUNG}),
    "opus": lambda: saved(samples_of.opus(), mutagen.oggopus.OggOpus, {"lyrics": SUNG}),
    "m4a": lambda: saved(samples_of.m4a(), mutagen.mp4.MP4, {"\xa9lyr": SUNG}),
}


def lyrics_of(data: bytes, most: int) -> str | None:
    request = WindowRequest(WindowSpec(16_000, 16_000), 1, take=0, lyrics_characters=most)
    return load_recording(data, request, LIMITS).lyrics


@pytest.mark.parametrize("name", SUNG_IN)
def test_lyrics_are_read_where_they_are_asked_for(name: str) -> None:
    data = SUNG_IN[name]()
    assert lyrics_of(data, 1000) == SUNG
    assert lyrics_of(data, 10) == SUNG[:10]
    assert lyrics_of(data, 0) is None


def test_a_file_without_lyrics_has_none() -> None:
    assert lyrics_of(with_id3(samples_of.mp3()), 1000) is None


def test_lyrics_come_through_the_decoding_process() -> None:
    request = WindowRequest(WindowSpec(16_000, 16_000), 1, take=0, lyrics_characters=16_000)
    recording = load_recording(with_uslt(samples_of.mp3()), request, LIMITS)
    header = json.loads(json.dumps(described(recording)))
    assert read_answer(header, 1).recording(np.zeros((0, 1), np.float32)) == recording
    assert recording.lyrics == SUNG
