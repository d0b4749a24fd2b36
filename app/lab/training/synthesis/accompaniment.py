"""A small band: chords, bass and drums with random timbres, in the key and the tempo of the melody."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from app.lab.training.synthesis.melody import scale_of
from app.lab.training.synthesis.settings import ClipSettings
from app.lab.training.synthesis.voices import SAMPLE_RATE_HZ, Samples

TABLE = 2048  # samples of one cycle
MAX_HARMONICS = 24
PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 4, 3),
    (0, 2, 5, 4),
    (1, 4, 0, 0),
    (0, 0, 3, 4),
    (0, 3, 0, 4),
)


def timbre(rng: np.random.Generator) -> Samples:
    """One cycle of a random instrument, shape (TABLE,)."""
    n = np.arange(1, MAX_HARMONICS + 1)
    levels = n ** -rng.uniform(0.8, 3.0) * rng.uniform(0.2, 1.0, MAX_HARMONICS)
    if rng.random() < 0.25:
        levels[1::2] *= 0.1  # hollow, as a clarinet
    phases = rng.uniform(0, 2 * np.pi, MAX_HARMONICS)
    t = np.arange(TABLE) / TABLE
    cycle = (levels[:, None] * np.sin(2 * np.pi * n[:, None] * t + phases[:, None])).sum(axis=0)
    return np.asarray(cycle / np.abs(cycle).max())


def tone(cycle: Samples, midi: float, n_samples: int, decay_seconds: float, attack_seconds: float) -> Samples:
    """One note, shape (n_samples,), that fades in and dies away and ends without a click."""
    t = np.arange(n_samples) / SAMPLE_RATE_HZ
    hz = 440.0 * 2 ** ((midi - 69) / 12)
    wave = cycle[(t * hz * TABLE).astype(np.int64) % TABLE]
    release = np.clip((n_samples - np.arange(n_samples)) / (0.01 * SAMPLE_RATE_HZ), 0, 1)
    return np.asarray(wave * np.exp(-t / decay_seconds) * np.clip(t / attack_seconds, 0, 1) * release)


def _add(mix: Samples, part: Samples, start: int, gain: float) -> None:
    end = min(len(mix), start + len(part))
    if start < end:
        mix[start:end] += gain * part[: end - start]


def _chord_midi(degree: int, settings: ClipSettings, scale: tuple[int, ...]) -> list[float]:
    octave_base = 48 + settings.tonic_midi
    notes = []
    for step in (degree, degree + 2, degree + 4):
        octave, index = divmod(step, len(scale))
        notes.append(octave_base + 12 * octave + scale[index])
    return notes


def chords_and_bass(settings: ClipSettings, rng: np.random.Generator, n_samples: int) -> Samples:
    """Harmony: one chord a bar, held, struck on the beat or broken, and a bass under it."""
    mix = np.zeros(n_samples)
    beat = round(60 / settings.beats_per_minute * SAMPLE_RATE_HZ)
    scale = scale_of(settings)
    progression = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
    style = rng.integers(3)  # held, struck, broken
    cycle, bass_cycle = timbre(rng), timbre(rng)
    decay, attack = float(rng.uniform(0.2, 2.5)), float(rng.choice((0.004, 0.02, 0.15)))
    bass_gain = float(rng.uniform(0.3, 1.5)) * (rng.random() < 0.8)
    shift = 12 * int(rng.integers(0, 2))
    for bar, start in enumerate(range(0, n_samples, 4 * beat)):
        chord = _chord_midi(progression[bar % 4], settings, scale)
        if style == 0:
            for midi in chord:
                _add(mix, tone(cycle, midi + shift, 4 * beat, decay + 1.0, attack), start, 0.5)
        for k in range(4 if style == 1 else 8 if style == 2 else 0):
            midis = chord if style == 1 else [chord[k % 3]]
            step = beat if style == 1 else beat // 2
            for midi in midis:
                _add(mix, tone(cycle, midi + shift, 2 * step, decay, attack), start + k * step, 0.5)
        for k in (0, 2):
            if bass_gain:
                _add(mix, tone(bass_cycle, chord[0] - 12, 2 * beat, 0.8, 0.01), start + k * beat, bass_gain)
    return mix


def drums(settings: ClipSettings, rng: np.random.Generator, n_samples: int) -> Samples:
    """Kick, snare and hi-hat from a swept sine and filtered noise."""
    mix = np.zeros(n_samples)
    half = round(30 / settings.beats_per_minute * SAMPLE_RATE_HZ)
    t = np.arange(round(0.25 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    kick = np.sin(2 * np.pi * (50 * t + rng.uniform(3, 8) * (1 - np.exp(-t * 30)))) * np.exp(-t * rng.uniform(8, 20))
    noise = rng.normal(size=len(t))
    snare = (0.5 * noise + np.sin(2 * np.pi * 190 * t)) * np.exp(-t * rng.uniform(14, 30))
    hat = lfilter([1.0, -0.95], [1.0], noise) * np.exp(-t * rng.uniform(30, 90))
    gains = rng.uniform(0.3, 1.0, 3) * (1.0, 0.6, 0.25)
    pattern = rng.random(8) < 0.25
    for k, start in enumerate(range(0, n_samples, half)):
        step = k % 8
        if step in (0, 4) or pattern[step]:
            _add(mix, kick, start, gains[0])
        if step in (2, 6):
            _add(mix, snare, start, gains[1])
        _add(mix, hat, start, gains[2] * rng.uniform(0.5, 1.0))
    return mix


def play_band(settings: ClipSettings, rng: np.random.Generator) -> Samples:
    """The accompaniment, shape (seconds * SAMPLE_RATE_HZ,), peak 1."""
    n_samples = int(settings.seconds * SAMPLE_RATE_HZ)
    mix = chords_and_bass(settings, rng, n_samples)
    mix /= np.abs(mix).max() + 1e-9
    if rng.random() < 0.65:
        beaten = drums(settings, rng, n_samples)
        mix += rng.uniform(0.2, 1.0) * beaten / (np.abs(beaten).max() + 1e-9)
    return np.asarray(mix / (np.abs(mix).max() + 1e-9))
