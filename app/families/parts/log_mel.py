"""Mono samples → log-mel spectrograms: by the numbers of a manifest and librosa's defaults, and as Whisper has them."""

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from app.families.parts.configs import HOP_SIZE, SAMPLE_RATE_HZ, MelConfig

POWER_FLOOR = 1e-10  # -100 dB
FFT_SIZE = 400  # samples, 25 ms; periodic Hann; Whisper's
DYNAMIC_RANGE = 8.0  # decades of power kept under the window's own maximum: 80 dB; Whisper's


def mel_bands(n_bands: int, fft_size: int, sample_rate_hz: int, low_hz: float = 0.0, high_hz: float | None = None) -> Tensor:
    """(n_bands, fft_size // 2 + 1) triangles of Slaney's scale and norm; `high_hz` None: half the sample rate."""
    high_hz = sample_rate_hz / 2 if high_hz is None else high_hz
    bands = melscale_fbanks(fft_size // 2 + 1, low_hz, high_hz, n_bands, sample_rate_hz, norm="slaney", mel_scale="slaney")
    return bands.T.contiguous()  # type: ignore[no-any-return]


class MelPower(nn.Module):
    """|STFT|² in mel bands. Nothing is learnt or stored."""

    hann: Tensor
    mel: Tensor

    def __init__(self, config: MelConfig, sample_rate_hz: int) -> None:
        super().__init__()
        self.config = config
        mel = mel_bands(config.mel_bands, config.fft_size, sample_rate_hz)  # (128, 1025)
        self.register_buffer("hann", torch.hann_window(config.fft_size), persistent=False)
        self.register_buffer("mel", mel, persistent=False)

    def power(self, samples: Tensor, around: str | None = "reflect") -> Tensor:
        """(n, s) in [-1, 1] → (n, bands, s // hop + 1). `around`: what lies beyond the ends, for torch; None: nothing."""
        fft_size, hop_size = self.config.fft_size, self.config.hop_size
        ends = {"center": False} if around is None else {"pad_mode": around}
        spectrum = torch.stft(samples, fft_size, hop_size, window=self.hann, return_complex=True, **ends)
        return self.mel @ (spectrum.real.square() + spectrum.imag.square())


class LogMel(MelPower):
    """Decibels over -40, in units of 40, so that music lies about 0."""

    def forward(self, samples: Tensor) -> Tensor:
        """(n, s) float32 in [-1, 1] → (n, bands, s // hop + 1)."""
        return self.power(samples).clamp_min(POWER_FLOOR).log10() / 4 + 1


class LogMel16kHz(MelPower):
    """Whisper's front end (openai/whisper, `audio.py`): log10 of mel power, about [-1, 1], 80 dB under the maximum."""

    def __init__(self, n_mels: int) -> None:
        super().__init__(MelConfig(fft_size=FFT_SIZE, hop_size=HOP_SIZE, mel_bands=n_mels), SAMPLE_RATE_HZ)

    def forward(self, samples: Tensor) -> Tensor:
        """(n, s) float32 in [-1, 1] → (n, n_mels, s // 160) float32; 1,000 frames for 10 s."""
        power = self.power(samples)[:, :, : samples.shape[-1] // HOP_SIZE]  # (n, n_mels, t), the last frame dropped
        log_mel = power.clamp_min(POWER_FLOOR).log10()
        loudest = log_mel.amax(dim=(-2, -1), keepdim=True)  # (n, 1, 1) of each window
        return (torch.maximum(log_mel, loudest - DYNAMIC_RANGE) + 4.0) / 4.0
