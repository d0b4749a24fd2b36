"""Audio through convolutions and lyrics through LSTM layers, concatenated, into a dense layer before the classes."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence

from app.domain import AUDIO, LYRICS
from app.families.genre.manifest import ReadConfig, SeeConfig, Sizes
from app.families.parts.modality_dropout import ModalityDropout


def block(n_in: int, n_out: int) -> nn.Sequential:
    """Convolution 3 x 3, batch norm, ReLU; halves both axes."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2))


class SpectrogramNet(nn.Module):
    """Mel spectrogram → features of a window."""

    def __init__(self, config: SeeConfig) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(block(n, m) for n, m in pairwise([1, *config.channels])))
        self.output = nn.Linear(config.channels[-1], config.n_features)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(n, n_mels, frames) → (n, n_features), 0 and more."""
        maps = self.blocks(log_mel.unsqueeze(1))  # (n, 64, 4, 18)
        return torch.relu(self.output(maps.mean(dim=(2, 3))))


class LyricsNet(nn.Module):
    """Numbers of words → features of the lyrics: the last hidden state."""

    def __init__(self, config: ReadConfig, n_words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words + 1, config.embedding_size, padding_idx=0)
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_units, config.layers, batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        """(n, t) int64, 0 after the last word → (n, hidden_units); zeros where there is no word."""
        words = pad(words, (0, 1))  # of a batch without any word t is 0
        lengths = (words > 0).sum(dim=1)
        packed = pack_padded_sequence(
            self.embedding(words), lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        _, (hidden, _) = self.lstm(packed)
        return hidden[-1] * (lengths > 0)[:, None]  # type: ignore[no-any-return]


class Fusion(nn.Module):
    """Features of both, side by side → classes."""

    def __init__(self, n_in: int, n_units: int, n_classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, n_units)
        self.output = nn.Linear(n_units, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(n, n_in) → logits, (n, n_classes)."""
        return self.output(torch.relu(self.dense(features)))  # type: ignore[no-any-return]


class GenreNetwork(nn.Module):
    """A modality that is missing is zeros, and so it is in training for some items (modality dropout)."""

    def __init__(self, sizes: Sizes, n_words: int, n_classes: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        see, read, used = sizes.see, sizes.read, sizes.used
        self.f = SpectrogramNet(see) if AUDIO in used else None
        self.g = LyricsNet(read, n_words) if LYRICS in used else None
        n_features = see.n_features * (AUDIO in used) + read.hidden_units * (LYRICS in used)
        self.h = Fusion(n_features, sizes.fused_units, n_classes)
        self.dropout = ModalityDropout(dropout_rate if len(used) == 2 else 0.0)

    def forward(self, log_mel: Tensor | None, words: Tensor | None) -> Tensor:
        """(n, n_mels, frames) or None, (n, t) or None → logits, (n, n_classes).

        A spectrogram of zeros, which no sound has, is a missing one; so are words that are all 0.
        """
        features = []
        if self.f is not None:
            assert log_mel is not None
            given = log_mel.flatten(1).any(dim=1)  # (n,)
            features.append(self.dropout(self.f(log_mel) * given[:, None]))
        if self.g is not None:
            assert words is not None
            features.append(self.dropout(self.g(words)))
        return self.h(torch.cat(features, dim=1))  # type: ignore[no-any-return]
