"""Mono samples → log-mel spectrogram, by the numbers of a manifest; librosa's defaults elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from app.families.parts.mel_config import MelConfig

POWER_FLOOR = 1e-10  # -100 dB


class LogMel(nn.Module):
    """|STFT|² in mel bands: decibels over -40, in units of 40, so that music lies about 0. Nothing is learnt or stored."""

    hann: Tensor
    mel: Tensor

    def __init__(self, config: MelConfig, sample_rate_hz: int) -> None:
        super().__init__()
        self.config = config
        bands = melscale_fbanks(
            n_freqs=config.fft_size // 2 + 1,
            f_min=0.0,
            f_max=sample_rate_hz / 2,
            n_mels=config.mel_bands,
            sample_rate=sample_rate_hz,
            norm="slaney",
            mel_scale="slaney",
        )  # (1025, 128)
        self.register_buffer("hann", torch.hann_window(config.fft_size), persistent=False)
        self.register_buffer("mel", bands.T.contiguous(), persistent=False)  # (128, 1025)

    def forward(self, samples: Tensor) -> Tensor:
        """(n, s) float32 in [-1, 1] → (n, bands, s // hop + 1)."""
        fft_size, hop_size = self.config.fft_size, self.config.hop_size
        spectrum = torch.stft(samples, fft_size, hop_size, window=self.hann, return_complex=True)  # (n, 1025, t), centred
        power = spectrum.real.square() + spectrum.imag.square()
        return (self.mel @ power).clamp_min(POWER_FLOOR).log10() / 4 + 1
