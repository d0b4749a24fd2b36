"""From a voice and a band to a recording: balance, room, band limits, compression, noise, level, codec."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from app.lab.training.synthesis.settings import ClipSettings
from app.lab.training.synthesis.voices import SAMPLE_RATE_HZ, Samples

PEAK = 0.97  # of full scale; a louder clip is turned down, never clipped
CODECS = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"))  # format and subtype of libsndfile
ACTIVE_DB = 40.0  # under the peak of the short-time level: what counts as sounding


def active_rms(samples: Samples) -> float:
    """RMS over the parts that sound, so that rests do not count."""
    frames = samples[: len(samples) // 512 * 512].reshape(-1, 512)
    power = (frames**2).mean(axis=1)
    sounding = power > power.max() * 10 ** (-ACTIVE_DB / 10)
    return float(np.sqrt(power[sounding].mean())) if sounding.any() else 0.0


def mix(voice: Samples, band: Samples | None, settings: ClipSettings) -> Samples:
    """Voice and band at `voice_to_band_db`; the voice at RMS .1. Shape kept."""
    voice = voice * (0.1 / (active_rms(voice) + 1e-9))
    if band is None:
        return voice
    return voice + band * (0.1 * 10 ** (-settings.voice_to_band_db / 20) / (active_rms(band) + 1e-9))


def reverberate(samples: Samples, settings: ClipSettings, rng: np.random.Generator) -> Samples:
    """A room: noise that dies by 60 dB in `room_seconds` and loses its treble, beside the direct sound. Shape kept."""
    if settings.room_seconds == 0:
        return samples
    t = np.arange(int(settings.room_seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.normal(size=len(t)) * 10 ** (-3 * t / settings.room_seconds)
    damping = rng.uniform(0.2, 0.8)
    tail = lfilter([1 - damping], [1, -damping], tail)
    tail *= settings.room_share / np.sqrt((tail**2).sum())
    delay = int(rng.uniform(0.002, 0.03) * SAMPLE_RATE_HZ)
    impulse = np.concatenate([[1.0], np.zeros(delay), tail])
    return np.asarray(fftconvolve(samples, impulse)[: len(samples)])


def compress(samples: Samples, amount: float) -> Samples:
    """Soft saturation: `amount` 0 leaves the samples as they are, 1 presses peaks together by some 10 dB."""
    if amount == 0:
        return samples
    drive = 3.0 * amount / (np.abs(samples).max() + 1e-9)
    return np.asarray(np.tanh(samples * drive) / drive)


def encode(samples: Samples, codec: int, loss: float) -> Samples:
    """Through a lossy codec and back; as it is if there is none of that index. Shape kept."""
    if codec >= len(CODECS):
        return samples
    container, subtype = CODECS[codec]
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format=container, subtype=subtype, compression_level=loss)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float64")
    return np.pad(decoded[: len(samples)], (0, max(0, len(samples) - len(decoded))))


def record(samples: Samples, settings: ClipSettings, rng: np.random.Generator) -> Samples:
    """What a listener gets: float32-ready samples within ±PEAK, a codec's overshoots within ±1. Shape kept."""
    samples = compress(reverberate(samples, settings, rng), settings.compression)
    band = butter(
        4, (settings.low_hz, min(settings.high_hz, 0.499 * SAMPLE_RATE_HZ)), "bandpass", fs=SAMPLE_RATE_HZ, output="sos"
    )
    samples = sosfilt(band, samples)
    rms = float(np.sqrt((samples**2).mean())) + 1e-9
    hiss = lfilter([1.0], [1.0, -rng.uniform(0.0, 0.9)], rng.normal(size=len(samples)))
    samples = samples / rms + hiss / np.sqrt((hiss**2).mean()) * 10 ** (settings.noise_db / 20)
    samples = samples * 10 ** (settings.level_dbfs / 20)
    samples = samples * min(1.0, PEAK / np.abs(samples).max())
    return np.clip(encode(samples, settings.codec, settings.codec_loss), -1.0, 1.0)
