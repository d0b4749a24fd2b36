"""Audio files and metadata to send, made on the spot."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np
import soundfile

RATE_HZ = 44_100
_BLOCK_SAMPLES = 8192  # libsndfile's Vorbis encoder overflows its stack on long blocks

# Artist and title of well-known songs, in the languages of the release: what a catalogue sends.
TRACKS = (
    ("Édith Piaf", "La vie en rose"),
    ("Domenico Modugno", "Nel blu dipinto di blu"),
    ("Nena", "99 Luftballons"),
    ("Tom Jobim", "Garota de Ipanema"),
    ("Mercedes Sosa", "Gracias a la vida"),
    ("坂本九", "上を向いて歩こう"),
    ("아이유", "좋은 날"),
    ("Cornelis Vreeswijk", "Brev från kolonien"),
    ("Czesław Niemen", "Dziwny jest ten świat"),
    ("Simon & Garfunkel", "The Sound of Silence"),
    ("Jacques Brel", "Ne me quitte pas"),
    ("Chico Buarque", "Construção"),
    ("Kraftwerk", "Wir fahren fahren fahren auf der Autobahn"),
    ("Fabrizio De André", "La canzone di Marinella"),
    ("Los Panchos", "Bésame mucho"),
    ("The Beatles", "Norwegian Wood (This Bird Has Flown)"),
)


def song(seconds: float, seed: int) -> np.ndarray:
    """(n, 2) float32 at RATE_HZ: a voice-like melody with vibrato over soft noise, different for every seed."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    note = round(0.4 * RATE_HZ)  # samples
    pitch_hz = 220.0 * 2.0 ** (rng.integers(0, 13, n // note + 1) / 12)
    times = np.arange(n) / RATE_HZ
    hz = np.repeat(pitch_hz, note)[:n] * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * times))
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    voice = sum(np.sin(k * phase) / k for k in range(1, 5))
    noise = rng.standard_normal((n, 2)) * 0.02
    return (0.25 * np.asarray(voice)[:, None] + noise).astype(np.float32)


def encoded(seconds: float, seed: int, container: str, subtype: str | None = None) -> bytes:
    """A song as a file: `container` is libsndfile's name, such as MP3, FLAC or OGG."""
    out = io.BytesIO()
    samples = song(seconds, seed)
    with soundfile.SoundFile(out, "w", RATE_HZ, 2, subtype, format=container) as file:
        for start in range(0, len(samples), _BLOCK_SAMPLES):
            file.write(samples[start : start + _BLOCK_SAMPLES])
    return out.getvalue()


def muxed(seconds: float, seed: int, container: str, codec: str) -> bytes:
    """A song as a file of FFmpeg's: `container` and `codec` by its names, such as ipod and aac. 48 kHz."""
    out = io.BytesIO()
    samples = song(seconds, seed)
    with av.open(out, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        resampler = av.AudioResampler(stream.codec_context.format, "stereo", 48_000, frame_size=stream.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def wav_header(rate_hz: int, channels: int, data_bytes: int, body: bytes) -> bytes:
    """A 16-bit WAV whose header may lie about its length."""
    frame_bytes = channels * 2
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame_bytes & 0xFFFFFFFF, frame_bytes, 16)
    riff = min(36 + data_bytes, 0xFFFFFFFF)
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16, fmt, b"data", data_bytes) + body


def hostile() -> dict[str, tuple[bytes, str]]:
    """Files that must be rejected, with the code of the error."""
    flac, mp3, seconds = encoded(2, 3, "FLAC"), encoded(5, 3, "MP3"), bytes(2 * RATE_HZ)
    noise = np.random.default_rng(1).bytes(100_000)
    nan = io.BytesIO()
    soundfile.write(nan, np.full((RATE_HZ, 1), np.nan, np.float32), RATE_HZ, "FLOAT", format="WAV")
    return {
        "random bytes": (noise, "audio_unknown_format"),
        "damaged flac": (flac[:200] + noise[:5000] + flac[5200:], "audio_corrupt"),
        "wav that promises hours": (wav_header(RATE_HZ, 1, 0xFFFFFF00, seconds), "audio_too_long"),
        "wav of 255 channels": (wav_header(RATE_HZ, 255, len(seconds), seconds), "audio_parameters"),
        "wav of NaN": (nan.getvalue(), "audio_not_finite"),
        "empty": (b"", "audio_empty"),
        "start of an mp3": (mp3[:100], "audio_unknown_format"),
    }
