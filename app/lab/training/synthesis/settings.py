"""Everything about a clip but its language, drawn from one distribution for all languages.

`draw_settings` never sees the language: nothing here can tell it. Whole curves (melody, room, instruments) are drawn
later from `ClipSettings.seed`, by code that does not see the language either.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from app.lab.training.synthesis.lines import Split, pick
from app.lab.training.synthesis.voices import Voice, voices_of

A_CAPPELLA_SHARE = 0.3  # clips without accompaniment


@dataclass(frozen=True)
class ClipSettings:
    """One draw. Times in seconds, levels in dB, `tonic_midi` and `register` in MIDI note numbers."""

    seed: int  # of everything that is drawn later
    voice: Voice
    accent: float  # in [0, 1): which of the language's espeak-ng voices
    seconds: float
    words_per_minute: int  # of the speech before it is sung
    speech_pitch: int  # espeak-ng's scale, 0..99
    beats_per_minute: float
    tonic_midi: float  # with a fraction: not every band is tuned to 440 Hz
    scale: int  # index into melody.SCALES
    centre_midi: float  # middle of the sung range
    formant_ratio: float  # > 1: shorter vocal tract
    tilt_db_per_octave: float
    breath: float  # added aperiodicity, 0..1
    vibrato_hz: float
    vibrato_cents: float
    portamento_seconds: float
    sharpness: float  # how much of a long note the vowel takes, exponent
    voice_to_band_db: float  # +inf for a cappella
    room_seconds: float  # reverberation time RT60; 0: dry
    room_share: float  # level of the reverberation against the direct sound
    low_hz: float  # band limits of the recording
    high_hz: float
    compression: float  # 0: none, 1: strong
    noise_db: float  # background noise against the mix
    level_dbfs: float  # RMS of the clip
    codec: int  # index into recording.CODECS; beyond its end: none
    codec_loss: float  # 0: best quality, 1: smallest file

    def as_vector(self) -> list[float]:
        """The drawn numbers, for statistics: voice as register, seed left out, finite."""
        numbers = [getattr(self, f.name) for f in fields(self) if f.name not in ("seed", "voice")]
        return [float(self.voice.register == "high"), *(float(min(x, 60.0)) for x in numbers)]


def draw_settings(split: Split, rng: np.random.Generator) -> ClipSettings:
    """Settings of one clip; the split decides on the voices only."""
    voice = pick(voices_of(split), rng)
    a_cappella = rng.random() < A_CAPPELLA_SHARE
    return ClipSettings(
        seed=int(rng.integers(2**32)),
        voice=voice,
        accent=float(rng.random()),
        seconds=float(rng.uniform(7.0, 9.0)),
        words_per_minute=int(rng.integers(110, 190)),
        speech_pitch=int(rng.integers(25, 75)),
        beats_per_minute=float(rng.uniform(80, 160)),
        tonic_midi=float(rng.uniform(0, 12)),
        scale=int(rng.integers(1000)),
        centre_midi=float(rng.normal(50 if voice.register == "low" else 62, 3.5)),
        formant_ratio=float(rng.uniform(0.88, 1.15)),
        tilt_db_per_octave=float(rng.uniform(-2.0, 3.0)),
        breath=float(rng.uniform(0, 0.25) if rng.random() < 0.5 else 0.0),
        vibrato_hz=float(rng.uniform(4.5, 6.8)),
        vibrato_cents=float(rng.uniform(0, 70)),
        portamento_seconds=float(rng.uniform(0.03, 0.12)),
        sharpness=float(rng.uniform(1.0, 3.0)),
        voice_to_band_db=float("inf") if a_cappella else float(rng.uniform(-2, 12)),
        room_seconds=0.0 if rng.random() < 0.25 else float(rng.uniform(0.15, 1.8)),
        room_share=float(rng.uniform(0.05, 0.5)),
        low_hz=float(rng.uniform(30, 180)),
        high_hz=float(rng.uniform(4_500, 11_000)),
        compression=float(rng.uniform(0, 1)),
        noise_db=float(rng.uniform(-70, -28)),
        level_dbfs=float(rng.uniform(-28, -14)),
        codec=int(rng.integers(4)),
        codec_loss=float(rng.uniform(0.1, 0.9)),
    )
