"""LRID-Net as the paper's figure 1 has it: f listens, g reads, h identifies; modality dropout before f and g."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from app.families.lrid_net.config import NetworkConfig
from app.families.lrid_net.listen import ResNet
from app.families.parts.modality_dropout import ModalityDropout


def _layer(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU())


class LridNet(nn.Module):
    """x_audio, x_lang → logits. Softmax is left to the loss and to the serving head."""

    def __init__(
        self, config: NetworkConfig, *, n_text: int, n_classes: int, audio_dropout: float = 0.0, text_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.drop_audio = ModalityDropout(audio_dropout)
        self.drop_text = ModalityDropout(text_dropout)
        self.f = ResNet(config)
        widths = [n_text] + [config.text_units] * config.text_layers
        self.g = nn.Sequential(*[_layer(a, b) for a, b in pairwise(widths)])
        self.h = nn.Sequential(
            _layer(config.n_audio_features + config.text_units, config.identify_units),
            nn.Linear(config.identify_units, n_classes),
        )

    def forward(self, x_audio: Tensor, x_lang: Tensor) -> Tensor:
        """x_audio (n, 128, t) dB and x_lang (n, 56) → logits (n, 11). Zeros stand for a missing modality."""
        s_audio = self.f(self.drop_audio(x_audio).unsqueeze(1))  # (n, 2048)
        s_text = self.g(self.drop_text(x_lang))  # (n, 128)
        return self.h(torch.cat([s_audio, s_text], dim=1))  # type: ignore[no-any-return]
