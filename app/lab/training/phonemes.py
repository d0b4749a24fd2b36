"""A training-only head: which phoneme f hears at each moment, told by the corpora that know (see `lrid synthesize`).

Languages differ in their phonemes and in which follow which. A listener that has learnt to hear phonemes has what it takes
to tell languages apart by them, whoever sings. Frame by frame and not by CTC (Graves et al. 2006), as the synthesis knows
when each phoneme is sung.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.families.lrid_net.config import ListenConfig
from app.families.lrid_net.listen import ResNet
from app.lab.training.corpus import Row
from app.lab.training.data import Crops
from app.lab.training.errors import CorpusError
from app.lab.training.synthesis.phonemes import REST, Phonemes, read_phonemes

STRIDE = 8  # spectrogram frames to one of f's second stage
FEWEST = 30  # times that a phoneme is sung in the corpus, or it is not told apart
UNKNOWN = -100  # target that is not scored
LENGTH_AND_STRESS = str.maketrans("", "", "ːˈˌ ")


class PhonemeScores:
    """What is sung when in the clips of a corpus."""

    def __init__(self, rows: Sequence[Row], listen: ListenConfig) -> None:
        """Raises CorpusError if no row's clip has its phonemes beside it."""
        self._listen = listen
        self._sung: list[Phonemes | None] = [read_phonemes(row.path) if row.path else None for row in rows]
        counts = Counter(_plain(ipa) for sung in self._sung if sung for _, ipa in sung)
        self.inventory = sorted(ipa for ipa, n in counts.items() if n >= FEWEST and ipa != REST)
        if not self.inventory:
            raise CorpusError(
                "no clip has a .phonemes file beside it; phoneme_loss_weight needs a corpus of `lrid synthesize`"
            )
        self._index = {ipa: i for i, ipa in enumerate(self.inventory)}

    def targets(self, rows: npt.NDArray[np.int64], crops: Crops) -> Tensor:
        """(n, frames of f's second stage) indices into the inventory, or UNKNOWN, for crops of these rows."""
        listen, wanted = self._listen, crops.samples.shape[1] or int(crops.lengths[0])
        n_frames = -(-((wanted - listen.fft_size) // listen.hop_size + 1) // STRIDE)
        middle = (np.arange(n_frames) + 0.5) * STRIDE * listen.hop_size + listen.fft_size / 2  # samples of the crop
        targets = np.full((len(rows), n_frames), UNKNOWN, np.int64)
        for i, row in enumerate(rows):
            if (sung := self._sung[row]) is None:
                continue
            starts_ms = [ms for ms, _ in sung]
            position = crops.starts[i] + middle * crops.lengths[i] / wanted
            for j, ms in enumerate(position * 1000 / listen.sample_rate_hz):
                ipa = _plain(sung[max(0, bisect_right(starts_ms, ms) - 1)][1])
                targets[i, j] = self._index.get(ipa, UNKNOWN)
        return torch.from_numpy(targets)


class PhonemeHead(nn.Module):
    """f's second stage, bands averaged → phonemes, frame by frame."""

    def __init__(self, listener: ResNet, n_channels: int, n_phonemes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_channels, n_phonemes)
        self._heard: Tensor | None = None
        listener.layer2.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._heard = output  # (n, n_channels, bands, frames)

    def loss(self, targets: Tensor) -> Tensor:
        """Cross-entropy of what f has just heard, whose first items `targets` (n, frames) belong to; 0 if none is known."""
        assert self._heard is not None
        heard, self._heard = self._heard, None
        if not (targets != UNKNOWN).any():
            return heard.new_zeros(())
        frames = heard[: len(targets)].float().mean(dim=2).transpose(1, 2)  # (n, frames, n_channels)
        targets = targets[:, : frames.shape[1]].to(frames.device)
        return cross_entropy(self.linear(frames).flatten(0, 1), targets.flatten(), ignore_index=UNKNOWN)


def _plain(ipa: str) -> str:
    """A phoneme without length and stress."""
    return ipa.translate(LENGTH_AND_STRESS) or REST
