"""Audio files made on the spot, whole and malformed, as bytes. For the tests of the decoder and of the service.

`WHOLE`: format → maker of 2 s of a 440 Hz tone. `HOSTILE`: name → (maker, code of the error it must get).
"""

import functools
import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import av
import numpy as np
import soundfile

RATE_HZ = 44_100
_Encoder = TypeVar("_Encoder", bound=Callable[..., bytes])


def tone(
    seconds: float = 2.0, hz: float = 440.0, rate_hz: int = RATE_HZ, channels: int = 2, peak: float = 0.5
) -> np.ndarray:
    """(n, channels) float32: the same sine in every channel."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    sine = (peak * np.sin(2 * np.pi * hz * times)).astype(np.float32)
    return np.repeat(sine[:, None], channels, axis=1)


def song(seconds: float = 31.0, rate_hz: int = RATE_HZ, channels: int = 2, seed: int = 0) -> np.ndarray:
    """(n, channels) float32: a moving melody over noise, so that no two seconds are the same."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate_hz)
    notes_hz = np.repeat(rng.uniform(200, 900, int(seconds * 4) + 2), rate_hz // 4 + 1)[:n]
    melody = 0.4 * np.sin(2 * np.pi * np.cumsum(notes_hz) / rate_hz)
    return (melody[:, None] + 0.03 * rng.standard_normal((n, channels))).astype(np.float32)


def _kept(make: _Encoder) -> _Encoder:
    """Encoding takes most of the time, of the same samples again and again: what is small is kept."""
    kept: dict[Any, bytes] = {}

    @functools.wraps(make)
    def encoder(samples: np.ndarray, *args: Any, **options: Any) -> bytes:
        key = (hashlib.blake2b(samples.tobytes()).digest(), samples.shape, samples.dtype, args, *options.items())
        data = kept.get(key) or make(samples, *args, **options)
        if len(data) < 500_000:
            kept[key] = data
        return data

    return cast(_Encoder, encoder)


@_kept
def encode(samples: np.ndarray, container: str, subtype: str | None = None, rate_hz: int = RATE_HZ) -> bytes:
    """Encode with libsndfile: WAV, FLAC, AIFF, MP3, OGG (`subtype` VORBIS or OPUS), RF64, ..."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate_hz, samples.shape[1], subtype, format=container) as file:
        for start in range(0, len(samples), 8192):  # its Vorbis encoder overflows the stack on long blocks
            file.write(samples[start : start + 8192])
    return out.getvalue()


def wav(samples: np.ndarray | None = None, subtype: str = "PCM_16", rate_hz: int = RATE_HZ) -> bytes:
    return encode(tone() if samples is None else samples, "WAV", subtype, rate_hz)


def aiff(samples: np.ndarray | None = None, subtype: str = "PCM_16", rate_hz: int = RATE_HZ) -> bytes:
    return encode(tone() if samples is None else samples, "AIFF", subtype, rate_hz)


def flac(samples: np.ndarray | None = None, subtype: str = "PCM_16", rate_hz: int = RATE_HZ) -> bytes:
    return encode(tone() if samples is None else samples, "FLAC", subtype, rate_hz)


def mp3(samples: np.ndarray | None = None, rate_hz: int = RATE_HZ) -> bytes:
    return encode(tone() if samples is None else samples, "MP3", "MPEG_LAYER_III", rate_hz)


def vorbis(samples: np.ndarray | None = None, rate_hz: int = RATE_HZ) -> bytes:
    return encode(tone() if samples is None else samples, "OGG", "VORBIS", rate_hz)


def opus(samples: np.ndarray | None = None, rate_hz: int = 48_000) -> bytes:
    return encode(tone(rate_hz=rate_hz) if samples is None else samples, "OGG", "OPUS", rate_hz)


@_kept
def container(samples: np.ndarray, muxer: str, codec: str, rate_hz: int = RATE_HZ, **options: str) -> bytes:
    """Encode with FFmpeg into an `mp4`, `ipod` (m4a), `adts`, `webm`, `matroska`, `mov` file; 1 or 2 channels."""
    out = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(out, "w", format=muxer, container_options=options) as file:
        stream: Any = file.add_stream(codec, rate=rate_hz, layout=layout)
        if codec.startswith("wma"):
            stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T, np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        frame.pts = 0
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate_hz, frame_size=stream.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def remuxed(data: bytes, muxer: str, metadata: dict[str, str] | None = None, later_seconds: int = 0) -> bytes:
    """The same packets in a new container, with tags or with time stamps that begin later."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(out, "w", format=muxer) as target:
        target.metadata.update(metadata or {})
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size and packet.pts is not None:
                packet.pts += round(later_seconds / packet.time_base)
                packet.dts = packet.pts
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


def m4a(samples: np.ndarray | None = None, rate_hz: int = RATE_HZ) -> bytes:
    return container(tone(rate_hz=rate_hz) if samples is None else samples, "ipod", "aac", rate_hz)


def mp4(samples: np.ndarray | None = None, rate_hz: int = RATE_HZ) -> bytes:
    return container(tone(rate_hz=rate_hz) if samples is None else samples, "mp4", "aac", rate_hz)


def aac(samples: np.ndarray | None = None, rate_hz: int = RATE_HZ) -> bytes:
    return container(tone(rate_hz=rate_hz) if samples is None else samples, "adts", "aac", rate_hz)


def webm(samples: np.ndarray | None = None, rate_hz: int = 48_000) -> bytes:
    return container(tone(rate_hz=rate_hz) if samples is None else samples, "webm", "libopus", rate_hz)


WHOLE: dict[str, Callable[[], bytes]] = {
    "wav": wav,
    "aiff": aiff,
    "flac": flac,
    "mp3": mp3,
    "vorbis": vorbis,
    "opus": opus,
    "m4a": m4a,
    "mp4": mp4,
    "aac": aac,
    "webm": webm,
}


# --- malformed --------------------------------------------------------------------------------------------------------


def cut(data: bytes, share: float = 0.6) -> bytes:
    """The first part of a file, as after a broken upload."""
    return data[: int(len(data) * share)]


def png() -> bytes:
    """A whole 1 × 1 PNG."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 4)) + chunk(b"IEND", b"")


def random_bytes(size: int = 100_000, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def wav_header(rate_hz: int = RATE_HZ, channels: int = 1, data_bytes: int | None = None, body: bytes | None = None) -> bytes:
    """A 16-bit WAV whose header says what it is told to say."""
    body = bytes(RATE_HZ * 2) if body is None else body
    size = len(body) if data_bytes is None else data_bytes
    frame_bytes = channels * 2
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame_bytes & 0xFFFFFFFF, frame_bytes, 16)
    riff = min(36 + size, 0xFFFFFFFF)
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16, fmt, b"data", size) + body


def wav_streamed() -> bytes:
    """A legitimate WAV from a writer that could not seek back: its lengths are 0xFFFFFFFF."""
    data = bytearray(wav())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    return bytes(data)


def wav_not_finite(value: float = np.nan) -> bytes:
    samples = tone()
    samples[1000] = value
    return wav(samples, "FLOAT")


def flac_forged(rate_hz: int | None = None, samples: int | None = None) -> bytes:
    """A FLAC whose STREAMINFO says another rate or number of samples (0: unknown)."""
    data = bytearray(flac())
    packed = int.from_bytes(data[18:26], "big")
    if rate_hz is not None:
        packed = packed & (1 << 44) - 1 | rate_hz << 44
    if samples is not None:
        packed = packed >> 36 << 36 | samples
    data[18:26] = packed.to_bytes(8, "big")
    return bytes(data)


def flac_without_frames() -> bytes:
    """FLAC headers of a stream of no samples."""
    return b"fLaC\x80\0\0\x22" + flac_forged(samples=0)[8:42]


@functools.cache
def long_silence(kind: str = "FLAC", hours: float = 3.0) -> bytes:
    """Hours of silence in a small file: a FLAC (8 kHz mono, some 100 kB an hour), or OGG for Vorbis."""
    out = io.BytesIO()
    block = np.zeros((8000 * 60, 1), np.int16)
    with soundfile.SoundFile(out, "w", 8000, 1, "VORBIS" if kind == "OGG" else "PCM_16", format=kind) as file:
        for _ in range(round(hours * 60)):
            for start in range(0, len(block), 8000):
                file.write(block[start : start + 8000])
    return out.getvalue()


def flac_bomb() -> bytes:
    """Hours of silence whose header admits to no length at all: only a bound on decoding stops it."""
    data = bytearray(long_silence("FLAC"))
    packed = int.from_bytes(data[18:26], "big")
    data[18:26] = (packed >> 36 << 36).to_bytes(8, "big")
    return bytes(data)


def damaged(data: bytes, at: float = 0.5, size: int = 1000) -> bytes:
    """A file some bytes of whose middle are noise."""
    start = int(len(data) * at)
    return data[:start] + random_bytes(size) + data[start + size :]


def ogg_checksum(page: bytes) -> bytes:
    """The checksum of an Ogg page (RFC 3533 §6), as its four bytes."""
    register = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return register.to_bytes(4, "little")


def m4a_many_streams(streams: int = 40) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        added = [file.add_stream("aac", rate=RATE_HZ, layout="mono") for _ in range(streams)]
        for stream in added:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = RATE_HZ
            frame.pts = 0
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return out.getvalue()


def video_only() -> bytes:
    """An MP4 without sound."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    return out.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "audio_empty"),
    "random bytes": (random_bytes, "audio_unknown_format"),
    "text": (lambda: b"I am not a song.\n" * 500, "audio_unknown_format"),
    "png named wav": (png, "audio_unknown_format"),
    "one byte": (lambda: b"\xff", "audio_unknown_format"),
    "m3u playlist": (lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n" * 50, "audio_unknown_format"),
    "concat list": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n" * 50, "audio_unknown_format"),
    "video without sound": (video_only, "audio_unknown_format"),
    "zero samples wav": (lambda: wav(np.zeros((0, 1), np.float32)), "audio_empty"),
    "zero samples flac": (flac_without_frames, "audio_empty"),
    "zero samples aiff": (lambda: aiff(np.zeros((0, 1), np.float32)), "audio_empty"),
    "too short": (lambda: wav(tone(0.05)), "audio_empty"),
    "m4a without its index": (lambda: cut(m4a()), "audio_truncated"),
    "opus without a whole page": (lambda: cut(opus(), 0.3), "audio_truncated"),
    "wav at 1 Hz": (lambda: wav_header(rate_hz=1), "audio_parameters"),
    "wav at 4 GHz": (lambda: wav_header(rate_hz=4_000_000_000), "audio_corrupt"),
    "wav with 255 channels": (lambda: wav_header(channels=255), "audio_parameters"),
    "wav with 0 channels": (lambda: wav_header(channels=0), "audio_parameters"),
    "9 channels": (lambda: wav(tone(channels=9)), "audio_parameters"),
    "7999 Hz": (lambda: wav(tone(rate_hz=7_999), rate_hz=7_999), "audio_parameters"),
    "192001 Hz": (lambda: wav(tone(rate_hz=192_001), rate_hz=192_001), "audio_parameters"),
    "hours of silent flac": (lambda: long_silence("FLAC"), "audio_too_long"),
    "hours of silent flac of no stated length": (flac_bomb, "audio_too_long"),
    "hours of silent ogg": (lambda: long_silence("OGG", 0.6), "audio_too_long"),
    "nan wav": (wav_not_finite, "audio_not_finite"),
    "infinite wav": (lambda: wav_not_finite(np.inf), "audio_not_finite"),
    "wav without fmt": (lambda: b"RIFF\x10\0\0\0WAVEdata\x04\0\0\0\0\0\0\0", "audio_corrupt"),
    "40 streams": (m4a_many_streams, "audio_corrupt"),
}
"""Name → (maker, code of the error it must get), for limits of half an hour."""

FAULTY: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated wav": (lambda: cut(wav()), "truncated"),
    "truncated aiff": (lambda: cut(aiff()), "truncated"),
    "truncated flac": (lambda: cut(flac(song(3))), "truncated"),
    "truncated mp3": (lambda: cut(mp3()), "truncated"),
    "mp3 with a short last frame": (lambda: mp3(song(3))[:-60], "truncated"),
    "truncated vorbis": (lambda: cut(vorbis(song(3))), "truncated"),
    "truncated opus": (lambda: cut(opus(song(3, 48_000))), "truncated"),
    "truncated mp4": (lambda: cut(container(song(3), "mp4", "aac", movflags="empty_moov+frag_keyframe")), "truncated"),
    "truncated aac": (lambda: cut(aac(), 0.613), "truncated"),
    "truncated webm": (lambda: cut(webm()), "truncated"),
    "wav promising a minute": (lambda: wav_header(data_bytes=RATE_HZ * 120, body=wav()[44:]), "truncated"),
    "flac promising weeks": (lambda: flac_forged(samples=(1 << 36) - 1), "truncated"),
    "flac that says 1 Hz": (lambda: flac_forged(rate_hz=1), "truncated"),
    "damaged flac": (lambda: flac()[:200] + random_bytes(5000) + flac()[5200:], "damaged"),
    "damaged aac": (lambda: damaged(aac(song(3))), "damaged"),
}
"""Name → (maker, code of the warning it must get): what can be heard of it is heard."""
