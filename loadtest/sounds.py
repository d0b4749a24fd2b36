"""Audio files and metadata to send, made on the spot."""

import io
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
    """A song as a file that FFmpeg writes, in 48 kHz: `container` and `codec` are its names, such as ipod and aac."""
    out = io.BytesIO()
    samples = song(seconds, seed)
    with av.open(out, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=48_000, layout="stereo")
        stream.bit_rate = 128_000  # WMA has no default
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        resampler = av.AudioResampler(stream.codec_context.format, "stereo", 48_000, frame_size=stream.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def _wav(samples: np.ndarray) -> bytes:
    """(n, channels) float32 → a file of floats."""
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, "FLOAT", format="WAV")
    return out.getvalue()


def hostile() -> dict[str, tuple[bytes, str]]:
    """Files that must be rejected, with the code of the error."""
    m4a, noise = muxed(2, 3, "ipod", "aac"), np.random.default_rng(1).bytes(100_000)
    return {
        "random bytes": (noise, "audio_unknown_format"),
        "m4a without its index": (m4a[: len(m4a) // 2], "audio_truncated"),
        "wav of 255 channels": (_wav(np.zeros((200, 255), np.float32)), "audio_parameters"),
        "wav of NaN": (_wav(np.full((RATE_HZ, 1), np.nan, np.float32)), "audio_not_finite"),
        "empty": (b"", "audio_empty"),
        "start of an mp3": (encoded(5, 3, "MP3")[:100], "audio_corrupt"),
    }
