"""x_audio against librosa, an independent implementation: within 1e-3 dB, or within the rounding of a float32 FFT."""

import librosa
import numpy as np
import pytest
import torch

from app.families.lrid_net.config import ListenConfig
from app.families.lrid_net.network import LogMel
from app.families.multitask.manifest import SegmentConfig
from app.families.multitask.network import LogMel as MultitaskLogMel

RATE_HZ = 22_050
SECONDS = 4


def signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    t = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    sweep = np.sin(2 * np.pi * (100 * t + (8000 - 100) / (2 * SECONDS) * t**2))
    clicks = np.zeros_like(t)
    clicks[:: RATE_HZ // 3] = 1.0
    return {
        "sweep": 0.5 * sweep,
        "noise": 0.1 * rng.standard_normal(t.size),
        "quiet noise": 1e-4 * rng.standard_normal(t.size),
        "clicks": clicks,
        "voice-like": sum(np.sin(2 * np.pi * 180 * k * t) / k for k in range(1, 30)) * 0.2 * (t % 0.7),
        "silence": np.zeros_like(t),
    }


def by_librosa(samples: np.ndarray) -> np.ndarray:
    """Kapre's documented defaults: magnitude, Slaney mel and norm, 10 log10, 80 dB under the maximum."""
    mel = librosa.feature.melspectrogram(
        y=samples, sr=RATE_HZ, n_fft=1024, hop_length=256, window="hann", center=False, power=1.0,
        n_mels=128, fmin=0.0, fmax=11_025.0, htk=False, norm="slaney",
    )  # fmt: skip
    return librosa.power_to_db(mel, ref=1.0, amin=1e-5, top_db=80.0)


@pytest.mark.usefixtures("librosa_in_python")
@pytest.mark.parametrize("name", list(signals()))
def test_decibels_are_librosas(name: str) -> None:
    samples = signals()[name].astype(np.float32)
    given = LogMel(ListenConfig())(torch.from_numpy(samples)[None])[0].numpy()
    expected = by_librosa(samples)
    assert given.shape == expected.shape == (128, (samples.size - 1024) // 256 + 1)
    # librosa's FFT is in float64, ours in float32: the bands that are nearly empty beside a tone hold its rounding, 2^-22 of
    # the frame's largest magnitude, which differs between processors; float64 would cost 20 ms a window.
    rounding = 2.0**-22 * 10 ** (expected.max(axis=0) / 10)
    difference = np.abs(10 ** (given / 10) - 10 ** (expected / 10))
    assert not ((np.abs(given - expected) >= 1e-3) & (difference > rounding)).any()


def test_the_range_is_each_windows_own() -> None:
    """A loud neighbour in the batch must not clip a quiet window."""
    quiet, loud = (torch.from_numpy(signals()[name].astype(np.float32)) for name in ("quiet noise", "clicks"))
    loud = loud * 1e6  # the floor of the amplitude lies 80 dB under the maximum only for such
    log_mel = LogMel(ListenConfig())
    together = log_mel(torch.stack([quiet, loud]))
    torch.testing.assert_close(together[0], log_mel(quiet[None])[0], rtol=0, atol=1e-3)  # a product per batch may round
    torch.testing.assert_close(together[1], log_mel(loud[None])[0], rtol=0, atol=1e-3)
    assert float(together[1].amax() - together[1].amin()) == pytest.approx(80.0, abs=1e-3)


@pytest.mark.usefixtures("librosa_in_python")
@pytest.mark.parametrize("name", list(signals()))
def test_segments_of_multitask_are_librosas(name: str) -> None:
    """187 frames of 96 bands for 3 s at 16 kHz: librosa's melspectrogram without its last frame."""
    samples = signals()[name].astype(np.float32)[: 3 * 16_000]
    given = MultitaskLogMel(SegmentConfig())(torch.from_numpy(samples)[None])[0, 0].numpy()
    power = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=512, hop_length=256, n_mels=96)
    assert power.shape == (96, 188)
    np.testing.assert_allclose(given, np.log10(1 + 10_000 * power[:, :187].T), atol=2e-4)
