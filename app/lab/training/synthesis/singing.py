"""Speech becomes singing: WORLD takes it apart, syllables are stretched onto notes, WORLD puts it together again.

WORLD: Morise, Yokomori & Ozawa 2016. Frames are FRAME_MS apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks, lfilter

from app.lab.training.synthesis.errors import WorldMissing
from app.lab.training.synthesis.melody import Melody
from app.lab.training.synthesis.settings import ClipSettings
from app.lab.training.synthesis.voices import NO_WORLD, SAMPLE_RATE_HZ, Samples

FRAME_MS = 8.0
FFT_SIZE = 1024  # WORLD's own choice at 22,050 Hz for voices above 71 Hz
F0_FLOOR_HZ, F0_CEILING_HZ = 65.0, 520.0
SYLLABLE_GAP_MS = 90.0  # nuclei are at least this far apart
NUCLEUS_PROMINENCE_DB = 2.5
QUIETEST_NUCLEUS_DB = 30.0  # under the loudest
SLOWEST_SPEECH_SYLLABLES_PER_SECOND = 2.6  # bounds how much speech is looked at
FLOOR = 1e-12  # power of silence in WORLD's envelope

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Syllables:
    """The part of some speech that is sung, and where its syllables are. Frames count from `first_frame` on."""

    first_frame: int
    f0_hz: Array  # (n_frames,) 0 where unvoiced
    level_db: Array  # (n_frames,)
    edges: npt.NDArray[np.int64]  # (n_syllables + 1,) frames where syllables begin

    @property
    def voiced(self) -> Array:
        """(n_frames,) 0 or 1."""
        return (self.f0_hz > 0).astype(np.float64)


@dataclass(frozen=True)
class Speech:
    """Speech taken apart."""

    syllables: Syllables
    envelope: Array  # (n_frames, FFT_SIZE // 2 + 1) power
    aperiodicity: Array  # (n_frames, FFT_SIZE // 2 + 1) 0..1


def _world() -> Any:
    try:
        import pyworld
    except ImportError as error:
        raise WorldMissing(NO_WORLD) from error
    return pyworld


def find_syllables(level_db: Array, voiced: Array) -> npt.NDArray[np.int64]:
    """Frames where syllables begin, and the end of the last: minima of the level between voiced maxima."""
    smooth = gaussian_filter1d(level_db, 25.0 / FRAME_MS)
    peaks, _ = find_peaks(
        np.where(voiced > 0, smooth, smooth.min()),
        distance=max(1, round(SYLLABLE_GAP_MS / FRAME_MS)),
        prominence=NUCLEUS_PROMINENCE_DB,
        height=smooth.max() - QUIETEST_NUCLEUS_DB,
    )
    if len(peaks) == 0:
        return np.array([0, len(level_db)])
    valleys = [a + int(np.argmin(smooth[a:b])) for a, b in pairwise(peaks)]
    margin = round(250 / FRAME_MS)
    return np.array([max(0, peaks[0] - margin), *valleys, min(len(level_db), peaks[-1] + margin)])


def hear_syllables(samples: Samples, syllables: int) -> Syllables:
    """The first `syllables` syllables of the speech; fewer if it has fewer."""
    samples = samples[: int((1.5 + syllables / SLOWEST_SPEECH_SYLLABLES_PER_SECOND) * SAMPLE_RATE_HZ)]
    f0_hz, times = _world().dio(samples, SAMPLE_RATE_HZ, frame_period=FRAME_MS, f0_floor=F0_FLOOR_HZ, f0_ceil=F0_CEILING_HZ)
    emphasised = lfilter([1.0, -0.6], [1.0], samples)
    power = np.convolve(emphasised**2, np.hanning(441) / 220, mode="same")
    positions = np.minimum((times * SAMPLE_RATE_HZ).astype(np.int64), len(samples) - 1)
    level_db = 10 * np.log10(power[positions] + 1e-9)
    edges = find_syllables(level_db, (f0_hz > 0).astype(np.float64))[: syllables + 1]
    first, last = int(edges[0]), int(edges[-1])
    return Syllables(first, np.ascontiguousarray(f0_hz[first:last]), level_db[first:last], edges - first)


def analyse(samples: Samples, syllables: Syllables) -> Speech:
    """Take the part of the speech that is sung apart."""
    world, n_frames = _world(), len(syllables.f0_hz)
    bounds = syllables.first_frame, syllables.first_frame + n_frames
    begin, end = (int(k * FRAME_MS / 1000 * SAMPLE_RATE_HZ) for k in bounds)
    part, times = np.ascontiguousarray(samples[begin : end + 1]), np.arange(n_frames) * FRAME_MS / 1000
    envelope = world.cheaptrick(part, syllables.f0_hz, times, SAMPLE_RATE_HZ, fft_size=FFT_SIZE)
    aperiodicity = world.d4c(part, syllables.f0_hz, times, SAMPLE_RATE_HZ, fft_size=FFT_SIZE)
    return Speech(syllables, envelope, aperiodicity)


def stretch(level_db: Array, voiced: Array, frames: int, sharpness: float) -> Array:
    """Source position of each of `frames` output frames: loud voiced frames take up the length, the others keep theirs.

    Returns shape (frames,), non-decreasing, from 0 to len(level_db) - 1.
    """
    n = len(level_db)
    if frames <= n:
        return np.linspace(0, n - 1, frames)
    loud = np.clip((level_db - level_db.max() + 12) / 12, 0, 1) ** sharpness * voiced + 1e-3
    lengths = 1 + (frames - n) * loud / loud.sum()
    ends = np.cumsum(lengths)
    return np.asarray(np.interp(np.arange(frames) + 0.5, ends - lengths / 2, np.arange(n)), dtype=np.float64)


def place_syllables(speech: Syllables, melody: Melody, settings: ClipSettings) -> tuple[Array, Array]:
    """Lay the syllables on the notes.

    Returns source position, -1 in rests, and pitch in MIDI numbers, both (n_frames,).
    """
    voiced = speech.voiced
    n_frames = int(settings.seconds * 1000 / FRAME_MS)
    source, pitch = np.full(n_frames, -1.0), np.full(n_frames, np.nan)
    bounds = np.round(np.cumsum([0.0, *(n.seconds for n in melody.notes)]) * 1000 / FRAME_MS).astype(int)
    bounds = np.minimum(bounds, n_frames)
    syllable, i, notes = 0, 0, melody.notes
    while i < len(notes):
        j = i + 1
        while j < len(notes) and notes[i].kind == "syllable" and notes[j].kind == "melisma":
            j += 1
        for k in range(i, j):
            pitch[bounds[k] : bounds[k + 1]] = np.nan if notes[k].kind == "rest" else notes[k].midi
        if notes[i].kind != "rest" and bounds[j] > bounds[i]:
            k = syllable % (len(speech.edges) - 1)
            a, b = int(speech.edges[k]), int(speech.edges[k + 1])
            part = stretch(speech.level_db[a:b], voiced[a:b], bounds[j] - bounds[i], settings.sharpness)
            source[bounds[i] : bounds[j]] = a + part
            syllable += 1
        i = j
    return source, pitch


def pitch_curve(pitch_midi: Array, settings: ClipSettings, rng: np.random.Generator) -> Array:
    """Sung pitch in Hz, (n_frames,): portamento, vibrato that sets in after the onset, a little drift."""
    known = np.flatnonzero(~np.isnan(pitch_midi))
    steps = np.interp(np.arange(len(pitch_midi)), known, pitch_midi[known])
    smooth = gaussian_filter1d(steps, settings.portamento_seconds * 1000 / FRAME_MS / 2, mode="nearest")
    onset = np.concatenate([[True], np.abs(np.diff(steps)) > 0.01])
    since = np.arange(len(steps)) - np.maximum.accumulate(np.where(onset, np.arange(len(steps)), 0))
    depth = np.clip((since * FRAME_MS / 1000 - 0.2) / 0.3, 0, 1) * settings.vibrato_cents / 100
    phase = 2 * np.pi * settings.vibrato_hz * np.arange(len(steps)) * FRAME_MS / 1000 + rng.uniform(0, 6.28)
    drift = gaussian_filter1d(rng.normal(size=len(steps)), 12.0) * 1.2 * rng.uniform(0.1, 0.4)
    return np.asarray(440.0 * 2 ** ((smooth + depth * np.sin(phase) + drift - 69) / 12), dtype=np.float64)


def warp_formants(frames: Array, ratio: float) -> Array:
    """Move the spectral envelope along frequency by `ratio`; shape kept."""
    bins = frames.shape[1]
    position = np.minimum(np.arange(bins) / ratio, bins - 1.001)
    low = position.astype(int)
    share = position - low
    return np.asarray(frames[:, low] * (1 - share) + frames[:, low + 1] * share)


def sing(samples: Samples, melody: Melody, settings: ClipSettings, rng: np.random.Generator) -> Samples:
    """The speech sung on the melody, (seconds * SAMPLE_RATE_HZ,), RMS not yet set."""
    syllables = hear_syllables(samples, melody.syllables)
    source, pitch_midi = place_syllables(syllables, melody, settings)
    speech = analyse(samples, syllables)
    sung = source >= 0
    position = np.clip(source, 0, len(syllables.f0_hz) - 1.001)
    low = position.astype(int)
    share = (position - low)[:, None]
    log_envelope = np.log(speech.envelope + FLOOR)
    envelope = np.exp(log_envelope[low] * (1 - share) + log_envelope[low + 1] * share)
    aperiodicity = speech.aperiodicity[low] * (1 - share) + speech.aperiodicity[low + 1] * share
    octaves = np.log2(np.maximum(np.arange(envelope.shape[1]), 1) * SAMPLE_RATE_HZ / FFT_SIZE / 1000)
    tilt = 10 ** (settings.tilt_db_per_octave * np.clip(octaves, -3, 3) / 10)
    envelope = warp_formants(envelope, settings.formant_ratio) * tilt
    envelope = np.where(sung[:, None], envelope, FLOOR)
    aperiodicity = warp_formants(aperiodicity, settings.formant_ratio)
    aperiodicity = np.clip(aperiodicity + (1 - aperiodicity) * settings.breath, 0, 1)
    f0_hz = np.where(
        sung & (syllables.f0_hz[np.round(position).astype(int)] > 0), pitch_curve(pitch_midi, settings, rng), 0.0
    )
    voice = _world().synthesize(
        f0_hz, np.ascontiguousarray(envelope), np.ascontiguousarray(aperiodicity), SAMPLE_RATE_HZ, FRAME_MS
    )
    n_samples = int(settings.seconds * SAMPLE_RATE_HZ)
    return np.pad(voice[:n_samples], (0, max(0, n_samples - len(voice))))
