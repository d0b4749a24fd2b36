"""Whisper's front end: mono samples at 16 kHz → log-mel spectrogram (openai/whisper, `audio.py`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.families.parts.log_mel import mel_bands
from app.families.parts.whisper_config import HOP_SIZE, SAMPLE_RATE_HZ

FFT_SIZE = 400  # samples, 25 ms; periodic Hann
POWER_FLOOR = 1e-10
DYNAMIC_RANGE = 8.0  # decades of power kept under the window's own maximum: 80 dB


class LogMel16kHz(nn.Module):
    """|STFT|², mel bands, log10, clipped to 80 dB under the window's own maximum, shifted to about [-1, 1]."""

    hann: Tensor
    mel: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("hann", torch.hann_window(FFT_SIZE), persistent=False)  # (400,) periodic
        self.register_buffer("mel", mel_bands(n_mels, FFT_SIZE, SAMPLE_RATE_HZ), persistent=False)  # (n_mels, 201)

    def forward(self, samples: Tensor) -> Tensor:
        """(n, s) float32 in [-1, 1] → (n, n_mels, s // 160) float32; 1,000 frames for 10 s."""
        padded = nn.functional.pad(samples[:, None], (FFT_SIZE // 2, FFT_SIZE // 2), mode="reflect")[:, 0]  # centred
        frames = padded.unfold(-1, FFT_SIZE, HOP_SIZE)[:, : samples.shape[-1] // HOP_SIZE]  # (n, t, 400), the last dropped
        spectrum = torch.fft.rfft(frames * self.hann)  # (n, t, 201)
        power = spectrum.real.square() + spectrum.imag.square()
        log_mel = (self.mel @ power.transpose(-1, -2)).clamp_min(POWER_FLOOR).log10()  # (n, n_mels, t)
        loudest = log_mel.amax(dim=(-2, -1), keepdim=True)  # (n, 1, 1) of each window
        return (torch.maximum(log_mel, loudest - DYNAMIC_RANGE) + 4.0) / 4.0
