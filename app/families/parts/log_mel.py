"""Mono samples → log-mel spectrogram, by the numbers of a manifest; librosa's defaults elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from app.families.parts.mel_config import MelConfig

POWER_FLOOR = 1e-10  # -100 dB


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

    def power(self, samples: Tensor, around: str = "reflect") -> Tensor:
        """(n, s) float32 in [-1, 1] → (n, bands, s // hop + 1); `around`: what lies beyond both ends, as torch has it."""
        fft_size, hop_size = self.config.fft_size, self.config.hop_size
        spectrum = torch.stft(samples, fft_size, hop_size, window=self.hann, pad_mode=around, return_complex=True)
        return self.mel @ (spectrum.real.square() + spectrum.imag.square())  # centred


class LogMel(MelPower):
    """Decibels over -40, in units of 40, so that music lies about 0."""

    def forward(self, samples: Tensor) -> Tensor:
        """(n, s) float32 in [-1, 1] → (n, bands, s // hop + 1)."""
        return self.power(samples).clamp_min(POWER_FLOOR).log10() / 4 + 1
