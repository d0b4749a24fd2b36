"""Audio bombs are bounded by bytes, seconds, memory and time; no demuxer reaches a file or a network."""

import functools
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import soundfile

from tests import audio_samples
from tests.service.hard import ask_all, children
from tests.service.live import LiveServer
from tests.service.openloop import audio_post
from tests.service.problems import check_problem

GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
DECODER_MEMORY_MB = 384
CANARY = b"canary-7f3a"
m4a, mp3 = functools.cache(audio_samples.m4a), functools.cache(audio_samples.mp3)


@pytest.fixture(scope="module")
def careful(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Tight bounds, so that the bombs may be small."""
    settings: dict[str, Any] = {
        "max_audio_seconds": 120,
        "decode_memory_mb": DECODER_MEMORY_MB,
        "decode_timeout_seconds": 10,
    }
    with LiveServer(tmp_path_factory.mktemp("careful"), model_store=tiny_store, max_windows=2, **settings) as live:
        yield live.wait_until_ready()


# --- bombs ------------------------------------------------------------------------------------------------------------


def silence(container: str, subtype: str, seconds: int, rate_hz: int, channels: int = 1) -> bytes:
    out = io.BytesIO()
    block = np.zeros((8192, channels), np.float32)
    with soundfile.SoundFile(out, "w", rate_hz, channels, subtype, format=container) as file:
        for _ in range(seconds * rate_hz // 8192):
            file.write(block)
    return out.getvalue()


@functools.cache
def eight_channels_of_silence() -> bytes:
    """As much PCM from as few bytes as FLAC allows: 8 channels of 24 bits at 192 kHz, a thousand times the file."""
    return silence("FLAC", "PCM_24", 115, 192_000, 8)


def unadmitted_flac() -> bytes:
    data = bytearray(silence("FLAC", "PCM_24", 240, 48_000, 8))
    packed = int.from_bytes(data[18:26], "big")
    data[18:26] = (packed >> 36 << 36).to_bytes(8, "big")
    return bytes(data)


def id3_of_the_whole_file() -> bytes:
    """Tags that claim to be as long as can be."""
    return b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + mp3()


def nested_id3() -> bytes:
    return b"ID3\x04\x00\x00\x00\x00\x00\x00" * 100_000 + mp3()


def giant_cover() -> bytes:
    """A FLAC with a picture block that promises 16 MB and brings 1."""
    data = audio_samples.flac()
    picture = b"\x06" + (0xFFFFFF).to_bytes(3, "big") + bytes(1_000_000)
    return data[:42] + picture + data[42:]


def mp4_table(entries: int) -> bytes:
    """A sample table that promises billions of entries."""
    data = bytearray(m4a())
    for name in (b"stsz", b"stts", b"stsc", b"stco"):
        at = data.find(name)
        if at > 0:
            count = at + (12 if name == b"stsz" else 8)
            data[count : count + 4] = struct.pack(">I", entries)
    return bytes(data)


def deep_boxes(depth: int = 20_000) -> bytes:
    """Boxes within boxes within boxes."""
    body = b""
    for _ in range(depth):
        body = struct.pack(">I4s", len(body) + 8, b"moov") + body
    return m4a()[:32] + body


def element(name: str, *parts: bytes) -> bytes:
    """An EBML element; `name` is its identifier in hexadecimal (RFC 8794)."""
    body = b"".join(parts)
    return bytes.fromhex(name) + (len(body) | 1 << 56).to_bytes(8, "big") + body


def matroska_of_many_tracks(tracks: int = 5000) -> bytes:
    """Headers only: EBML, Segment, Info and so many PCM tracks (RFC 9559)."""
    audio = element("e1", element("b5", struct.pack(">f", 8000)), element("9f", b"\1"), element("6264", b"\x10"))
    entries = (
        element("ae", element("d7", n), element("73c5", n), element("83", b"\2"), element("86", b"A_PCM/INT/LIT"), audio)
        for n in (number.to_bytes(3, "big") for number in range(1, tracks + 1))
    )
    head = element("1a45dfa3", element("4282", b"matroska"), element("4287", b"\4"), element("4285", b"\2"))
    info = element("1549a966", element("2ad7b1", (1_000_000).to_bytes(4, "big")))
    return head + element("18538067", info, element("1654ae6b", *entries))


def mp4_of_many_tracks(tracks: int = 5000) -> bytes:
    """One track, written so many times."""
    data = m4a()
    moov = data.find(b"moov") - 4
    trak = data.find(b"trak", moov) - 4
    size = int.from_bytes(data[trak : trak + 4], "big")
    return data[:moov] + box(b"moov", data[moov + 8 : trak], data[trak : trak + size] * tracks)


def ogg_of_many_streams(streams: int = 3000) -> bytes:
    page = audio_samples.vorbis()[:58]  # the first page: an identification header
    return b"".join(page[:14] + struct.pack("<I", serial) + page[18:] for serial in range(streams))


def with_codec(codec: str, layout: str = "mono", muxer: str = "matroska", rate: int = 48_000) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=muxer) as file:
        stream: Any = file.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 6_300  # G.723 has no other
        frame = av.AudioFrame.from_ndarray(np.zeros((1 + (layout == "stereo"), rate), np.float32), "fltp", layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate, frame_size=stream.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def mp4_with_cover_and_data() -> bytes:
    """A video stream of one picture before the sound, as covers are stored: legitimate."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        video = file.add_stream("mjpeg", rate=1)
        video.width, video.height, video.pix_fmt = 64, 64, "yuvj420p"
        sound = file.add_stream("aac", rate=44_100, layout="mono")
        file.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        file.mux(video.encode(None))
        samples = audio_samples.tone(channels=1)
        for start in range(0, len(samples) - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[start : start + 1024].T), "fltp", "mono")
            frame.sample_rate, frame.pts = 44_100, start
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return out.getvalue()


BOMBS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "a thousandfold flac": (eight_channels_of_silence, {"ok", "nothing_usable"}),
    "flac of no stated length": (unadmitted_flac, {"audio_too_long"}),
    "ogg that expands": (lambda: silence("OGG", "VORBIS", 240, 48_000, 2), {"audio_too_long"}),
    "opus that expands": (lambda: silence("OGG", "OPUS", 240, 48_000, 1), {"audio_too_long"}),
    "mp3 that expands": (lambda: silence("MP3", "MPEG_LAYER_III", 240, 8_000, 1), {"audio_too_long"}),
    "endless tag": (id3_of_the_whole_file, {"ok"}),  # what follows its header is heard
    "a hundred thousand tags": (nested_id3, {"audio_unknown_format"}),
    "giant cover": (giant_cover, {"audio_truncated", "audio_corrupt"}),
    "mp4 of billions of samples": (lambda: mp4_table(0xFFFFFFF0), {"audio_corrupt", "audio_truncated", "decoder_memory"}),
    "mp4 of millions of samples": (lambda: mp4_table(50_000_000), {"audio_corrupt", "audio_truncated", "decoder_memory"}),
    "boxes in boxes": (deep_boxes, {"audio_corrupt", "audio_truncated", "audio_unknown_format", "decoder_crashed"}),
    "5000 tracks in matroska": (matroska_of_many_tracks, {"audio_corrupt"}),
    "5000 tracks in mp4": (mp4_of_many_tracks, {"audio_corrupt", "decoder_memory"}),
    "3000 ogg streams": (ogg_of_many_streams, {"audio_corrupt"}),
    "a codec that is not on the list": (lambda: with_codec("g723_1", "mono", "wav", 8_000), {"audio_unknown_format"}),
    "a codec that does not exist": (
        lambda: with_codec("wavpack", "stereo").replace(b"A_WAVPACK4", b"A_QWERTYZ4"),
        {"audio_unknown_format"},
    ),
    "a cover before the sound": (mp4_with_cover_and_data, {"ok"}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(careful: LiveServer, name: str) -> None:
    make, outcomes = BOMBS[name]
    data = make()
    parent = psutil.Process(careful.process.pid)
    before_mb = parent.memory_info().rss / 1e6
    began = time.monotonic()
    response = careful.identify(files={"audio": data})
    seconds = time.monotonic() - began
    outcome = "ok" if response.status_code == 200 else response.json()["code"]
    assert outcome in outcomes
    if response.status_code != 200:
        check_problem(response, response.status_code, outcome)
    assert seconds < 30  # decode_timeout_seconds and a busy machine
    assert parent.memory_info().rss / 1e6 - before_mb < 120 + 3 * len(data) / 1e6
    for decoder in children(careful, "app.audio.worker"):
        assert decoder.memory_info().rss / 1e6 < DECODER_MEMORY_MB + 200
    assert careful.identify(json=GOOD).status_code == 200


def test_a_bomb_delays_nobody_elses_metadata(careful: LiveServer) -> None:
    """Both decoders are busy with bombs, and more of them wait."""
    bomb = audio_post(eight_channels_of_silence())
    asking = threading.Thread(target=ask_all, args=(careful.port, [bomb] * 4))
    asking.start()
    slowest = 0.0
    for _ in range(40):
        began = time.monotonic()
        assert careful.identify(json=GOOD).status_code == 200
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.02)
    asking.join()
    assert slowest < 3.0


# --- nothing but the bytes --------------------------------------------------------------------------------------------


class Listener:
    """A port of ours that nobody must connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.02)  # who has called is there at once
        self.port: int = self._socket.getsockname()[1]

    def was_called(self) -> bool:
        try:
            connection, _ = self._socket.accept()
        except TimeoutError:
            return False
        connection.close()
        return True

    def close(self) -> None:
        self._socket.close()


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, name) + body


def mp4_with_reference(location: str) -> bytes:
    """An M4A whose samples lie elsewhere: its data reference names `location` (ISO/IEC 14496-12 §8.7.2)."""
    data = bytearray(m4a())
    at = data.find(b"dref") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    url = box(b"url ", b"\0\0\0\0", location.encode() + b"\0")
    alias = box(b"alis", b"\0\0\0\0", bytes(150), struct.pack(">hh", 2, len(location)), location.encode(), b"\xff\xff\0\0")
    reference = box(b"dref", b"\0\0\0\0\0\0\0\2", url, alias)
    data[at : at + size] = reference
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):  # the boxes around it grew
        start = data.find(name) - 4
        grown = int.from_bytes(data[start : start + 4], "big") + len(reference) - size
        data[start : start + 4] = struct.pack(">I", grown)
    return bytes(data)


def reachers(url: str, path: str) -> dict[str, bytes]:
    """Files that ask their reader to open something."""
    port = url.split("/")[2].split(":")[1]
    elsewhere = box(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(url) + 1), url.encode() + b"\0")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{url}\n#EXTINF:10.0,\n{path}\n"
    return {
        "hls": playlist.encode(),
        "hls after ID3": b"ID3\x04\x00\x00\x00\x00\x00\x00" + playlist.encode(),
        "hls named mp3": mp3()[:417] + playlist.encode(),
        "concat": f"ffconcat version 1.0\nfile '{path}'\nfile '{url}'\n".encode(),
        "concat protocol": f"concat:{path}|{url}".encode(),
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n".encode(),
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>'.encode(),
        "xspf": f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file://{path}">]><playlist>&e;</playlist>'.encode(),
        "pls": f"[playlist]\nFile1={url}\nFile2={path}\n".encode(),
        "asx": f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>'.encode(),
        "mp4 reference to a url": mp4_with_reference(url),
        "mp4 reference to a file": mp4_with_reference(f"file://{path}"),
        "mp4 reference to a path": mp4_with_reference(path),
        "quicktime rmra": box(b"ftyp", b"qt  \0\0\0\0") + box(b"moov", box(b"rmra", box(b"rmda", elsewhere))),
        "plain url": url.encode(),
        "file url": f"file://{path}".encode(),
        "subtitle link": b"\x1a\x45\xdf\xa3" + f"{url}\n{path}".encode(),
    }


@pytest.fixture
def canary(tmp_path: Path) -> tuple[Path, tuple[int, int]]:
    """A real song that must not be heard: its path, and the times that reading would change."""
    path = tmp_path / "canary.wav"
    path.write_bytes(audio_samples.wav() + CANARY)
    return path, (path.stat().st_atime_ns, path.stat().st_mtime_ns)


REACHERS = tuple(reachers("http://127.0.0.1:1/x", "/nowhere"))


@pytest.mark.parametrize("kind", REACHERS)
def test_no_demuxer_reaches_beyond_the_bytes(server: LiveServer, canary: tuple[Path, tuple[int, int]], kind: str) -> None:
    listener = Listener()
    path, times = canary
    try:
        for scheme in ("http", "tcp", "rtmp"):
            data = reachers(f"{scheme}://127.0.0.1:{listener.port}/x.mp3", str(path))[kind]
            response = server.identify(files={"audio": data})
            assert response.status_code in (413, 415, 422), response.text
            assert CANARY.decode() not in response.text
            assert str(path) not in response.text
        assert not listener.was_called()
    finally:
        listener.close()
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == times
    assert str(path) not in server.text_of_log()
