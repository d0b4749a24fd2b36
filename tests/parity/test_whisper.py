"""The ears against independent implementations: librosa for the front end, NumPy for the network, and stored figures."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.families.parts.log_mel import LogMel16kHz
from app.families.parts.whisper_checkpoint import FIRST_LANGUAGE, LANGUAGES, NO_SPEECH, ears_from_checkpoint
from tests.whisper_reference import Reference, random_checkpoint

RATE_HZ = 16_000
SECONDS = 4


def signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    t = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    return {
        "sweep": 0.5 * np.sin(2 * np.pi * (100 * t + 900 * t**2)),
        "noise": 0.1 * rng.standard_normal(t.size),
        "quiet noise": 1e-5 * rng.standard_normal(t.size),
        "clicks": (np.arange(t.size) % 5333 == 0).astype(float),
        "voice-like": sum(np.sin(2 * np.pi * 180 * k * t) / k for k in range(1, 30)) * 0.2 * (t % 0.7),
        "silence": np.zeros_like(t),
    }


def power_by_librosa(samples: np.ndarray) -> np.ndarray:
    """(80, t) mel power of Whisper's front end, in float64."""
    mel = librosa.feature.melspectrogram(
        y=samples.astype(np.float64), sr=RATE_HZ, n_fft=400, hop_length=160, window="hann", center=True, pad_mode="reflect",
        power=2.0, n_mels=80, fmin=0.0, fmax=8000.0, htk=False, norm="slaney", dtype=np.float64,
    )  # fmt: skip
    return mel[:, :-1]


def scaled(power: np.ndarray) -> np.ndarray:
    log_mel = np.log10(np.maximum(power, 1e-10))
    return (np.maximum(log_mel, log_mel.max() - 8.0) + 4.0) / 4.0


@pytest.mark.usefixtures("librosa_in_python")
@pytest.mark.parametrize("name", list(signals()))
def test_the_front_end_is_librosas(name: str) -> None:
    """float32 rounds a transform's sums at 2^-22 of the frame's largest magnitude: more than that is an error."""
    samples = signals()[name].astype(np.float32)
    given = LogMel16kHz(80)(torch.from_numpy(samples)[None])[0].numpy()
    power = power_by_librosa(samples)
    assert given.shape == power.shape == (80, samples.size // 160)
    rounding = 2.0**-22 * np.sqrt(power.max(axis=0))  # of magnitudes, by frame
    low, high = (scaled(np.maximum(np.sqrt(power) + sign * rounding, 0.0) ** 2) for sign in (-1, 1))
    assert (given >= low - 1e-4).all()
    assert (given <= high + 1e-4).all()


def test_the_range_is_each_windows_own() -> None:
    """A loud neighbour in the batch must not clip a quiet window."""
    quiet, loud = (torch.from_numpy(signals()[name].astype(np.float32)) for name in ("quiet noise", "clicks"))
    log_mel = LogMel16kHz(80)
    together = log_mel(torch.stack([quiet, loud]))
    torch.testing.assert_close(together[0], log_mel(quiet[None])[0], rtol=0, atol=1e-3)  # a product per batch may round
    torch.testing.assert_close(together[1], log_mel(loud[None])[0], rtol=0, atol=1e-3)


def test_the_network_is_whispers(tmp_path: Path) -> None:
    """Random weights, in full against folded: hidden, the no-speech logit and the languages'."""
    tensors = random_checkpoint(n_positions=100)
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = ears_from_checkpoint(tmp_path / "model.safetensors", n_positions=50)
    rng = np.random.default_rng(1)
    samples = torch.from_numpy(0.1 * rng.standard_normal((2, 50 * 320)).astype(np.float32))
    with torch.inference_mode():
        features = loaded.ears(samples)
        mel = loaded.ears.log_mel(samples).numpy()
    assert features.shape == (2, 130)
    reference = Reference(tensors)
    for given, window, one in zip(features.numpy(), samples.numpy(), mel, strict=True):
        hidden = reference.hidden(one)
        np.testing.assert_allclose(given[:128], hidden, atol=2e-5)
        assert given[128] == pytest.approx(hidden @ reference.row(NO_SPEECH), abs=1e-4)
        assert given[129] == pytest.approx(20 * np.log10(np.sqrt(np.mean(window.astype(np.float64) ** 2))), abs=1e-3)
        logits = given[:128] @ loaded.rows.numpy().T
        expected = [hidden @ reference.row(FIRST_LANGUAGE + i) for i in range(len(LANGUAGES))]
        np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_windows_differ() -> None:
    """What the test above compares is no constant."""
    reference = Reference(random_checkpoint())
    rng = np.random.default_rng(2)
    one, other = (reference.hidden(rng.standard_normal((80, 100))) for _ in range(2))
    assert np.abs(one - other).max() > 0.05
