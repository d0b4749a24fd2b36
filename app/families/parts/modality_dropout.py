"""Modality dropout (Choi & Wang 2021, section 3.4)."""

import torch
from torch import Tensor, nn


class ModalityDropout(nn.Module):
    """Replaces whole items of its input by zeros, in training only, without 1 / (1 - r) scaling (paper §3.4)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"dropout rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) → the same shape; each item is kept or zeroed by a draw of its own."""
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(x.shape[0], device=x.device) >= self.rate  # (n,)
        return x * kept.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
