"""The sound of the singing and of the recording, on speech made here; singing needs pyworld."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from app.lab.training.synthesis.accompaniment import play_band
from app.lab.training.synthesis.melody import Melody, Note
from app.lab.training.synthesis.recording import CODECS, PEAK, active_rms, compress, encode, mix, record, reverberate
from app.lab.training.synthesis.settings import ClipSettings, draw_settings
from app.lab.training.synthesis.singing import find_syllables, sing, stretch
from app.lab.training.synthesis.voices import SAMPLE_RATE_HZ


def settings_of(seed: int = 0, **changes: float) -> ClipSettings:
    return replace(draw_settings("train", np.random.default_rng(seed)), **changes)  # type: ignore[arg-type]


def babble(syllables: int) -> np.ndarray:
    """Vowels of a 120 Hz voice with short gaps: (n_samples,)."""
    t = np.arange(int(0.25 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    pulses = ((t * 120) % 1 < 120 / SAMPLE_RATE_HZ).astype(float)
    angle = 2 * np.pi * 700 / SAMPLE_RATE_HZ
    vowel = lfilter([1.0], [1.0, -2 * 0.97 * np.cos(angle), 0.97**2], pulses)
    vowel *= np.sin(np.pi * np.arange(len(t)) / len(t)) ** 0.5 / np.abs(vowel).max()
    quiet = np.random.default_rng(0).normal(size=len(t) // 5) * 1e-3
    return 0.5 * np.concatenate([np.concatenate([quiet, vowel]) for _ in range(syllables)] + [quiet])


@given(st.integers(1, 60), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_stretch_keeps_the_order_and_the_range(frames_in: int, frames_out: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    level_db, voiced = rng.normal(-30, 10, frames_in), rng.integers(0, 2, frames_in).astype(float)
    position = stretch(level_db, voiced, frames_out, 2.0)
    assert position.shape == (frames_out,)
    assert (np.diff(position) >= -1e-9).all()
    assert position.min() >= 0
    assert position.max() <= frames_in - 1


def test_syllables_are_found_between_voiced_maxima() -> None:
    level_db = -20 - 20 * np.abs(np.sin(np.pi * np.arange(200) / 40))  # maxima at 0, 40, 80, ...
    edges = find_syllables(level_db, np.ones(200))
    assert len(edges) - 1 == 4
    assert np.allclose(edges[1:-1], [60, 100, 140], atol=1)
    assert len(find_syllables(np.full(50, -60.0), np.zeros(50))) == 2  # nothing voiced: one piece


def test_the_voice_sings_the_notes() -> None:
    pyworld = pytest.importorskip("pyworld", reason="pyworld is not installed: no vocoder to test")
    notes = tuple(Note(0.8, midi, "syllable") for midi in (50.0, 57.0, 53.0))
    melody = Melody((*notes, Note(0.6, 0.0, "rest")))
    settings = settings_of(seconds=3.0, vibrato_cents=0.0, breath=0.0, portamento_seconds=0.03)
    voice = sing(babble(4), melody, settings, np.random.default_rng(1))
    assert voice.shape == (3 * SAMPLE_RATE_HZ,)
    f0_hz, times = pyworld.dio(voice, SAMPLE_RATE_HZ, f0_floor=65.0, f0_ceil=520.0)
    for k, note in enumerate(notes):
        inside = (times > 0.8 * k + 0.25) & (times < 0.8 * k + 0.65) & (f0_hz > 0)
        assert inside.sum() > 40
        sung_midi = 69 + 12 * np.log2(np.median(f0_hz[inside]) / 440)
        assert sung_midi == pytest.approx(note.midi, abs=0.5)
    rest = voice[int(2.7 * SAMPLE_RATE_HZ) :]
    assert np.sqrt((rest**2).mean()) < 0.01 * active_rms(voice)


@pytest.mark.parametrize("ratio_db", [-3.0, 6.0, 12.0])
def test_voice_and_band_stand_at_the_drawn_ratio(ratio_db: float) -> None:
    settings = settings_of(seconds=7.0, voice_to_band_db=ratio_db)
    band = play_band(settings, np.random.default_rng(2))
    voice = np.sin(np.arange(len(band)) * 0.05)
    mixed = mix(voice, band, settings)
    alone = mix(voice, None, settings)
    measured_db = 20 * np.log10(active_rms(alone) / active_rms(mixed - alone))
    assert measured_db == pytest.approx(ratio_db, abs=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_a_recording_has_its_level_and_never_clips(seed: int) -> None:
    settings = settings_of(seed, seconds=7.0, codec=len(CODECS))
    band = play_band(settings, np.random.default_rng(seed))
    clip = record(band, settings, np.random.default_rng(seed))
    assert clip.shape == band.shape
    assert np.isfinite(clip).all()
    assert np.abs(clip).max() <= PEAK + 1e-9
    rms_dbfs = 20 * np.log10(np.sqrt((clip**2).mean()))
    quieter_to_fit = np.abs(clip).max() > PEAK - 1e-3
    assert rms_dbfs < settings.level_dbfs + 0.2
    assert quieter_to_fit or rms_dbfs == pytest.approx(settings.level_dbfs, abs=0.2)
    again = record(band, settings, np.random.default_rng(seed))
    assert np.array_equal(clip, again)


def test_a_room_rings_on_and_a_dry_one_does_not() -> None:
    click = np.zeros(SAMPLE_RATE_HZ)
    click[100] = 1.0
    rng = np.random.default_rng(0)
    dry = reverberate(click, settings_of(room_seconds=0.0), rng)
    assert np.array_equal(dry, click)
    wet = reverberate(click, settings_of(room_seconds=0.8, room_share=0.5), rng)
    tail_db = [10 * np.log10((wet[a : a + 2000] ** 2).mean()) for a in (2_000, 11_025)]
    assert tail_db[0] - tail_db[1] == pytest.approx(60 * (11_025 - 2_000) / SAMPLE_RATE_HZ / 0.8, abs=6)


def test_compression_presses_peaks() -> None:
    samples = np.concatenate([np.full(100, 0.05), np.full(100, 1.0)])
    assert np.array_equal(compress(samples, 0.0), samples)
    pressed = compress(samples, 1.0)
    assert pressed[-1] / pressed[0] < 0.5 * samples[-1] / samples[0]


@pytest.mark.parametrize("codec", range(len(CODECS)))
def test_a_codec_keeps_length_and_place(codec: int) -> None:
    voice = babble(6)
    light, heavy = (encode(voice, codec, loss) for loss in (0.1, 0.9))
    assert light.shape == heavy.shape == voice.shape
    errors = [float(np.sqrt(((made - voice) ** 2).mean() / (voice**2).mean())) for made in (light, heavy)]
    assert 0 < errors[0] < errors[1] < 0.5, "the same samples, in the same place, with some loss"
    np.testing.assert_array_equal(encode(voice, codec, 0.9), heavy)


def test_half_of_the_clips_meet_no_codec() -> None:
    codecs = [draw_settings("train", np.random.default_rng(seed)).codec for seed in range(400)]
    assert 0.4 < np.mean([codec >= len(CODECS) for codec in codecs]) < 0.6
    voice = babble(2)
    assert encode(voice, len(CODECS), 0.5) is voice
