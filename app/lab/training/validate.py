"""Hearing whole windows while training: for validation, and for training g and h on a finished f."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from app.families.lrid_net.config import ModeName as Mode
from app.families.lrid_net.listen import LogMel
from app.families.lrid_net.network import LridNet
from app.lab.training.config import VARIANTS, TrainConfig
from app.lab.training.corpus import Row
from app.lab.training.data import Crops, Data, windows
from app.lab.training.team import Team

WINDOWS_AT_ONCE = 8


class Ear:
    """The front end and f, with the precision and the device of a training."""

    def __init__(
        self, config: TrainConfig, data: Data, network: LridNet, device: torch.device, team: Team | None = None
    ) -> None:
        self.device = device
        self.team = team or Team()
        self.log_mel = LogMel(config.listen).to(device)
        self._config = config
        self._data = data
        self._network = network
        self._memory: Tensor | None = None  # (n_train, 2048)
        rng = np.random.default_rng(config.seed)
        n = len(data.valid.rows)
        wanted = config.validate_items if 0 < config.validate_items < n else n
        self.valid_rows = np.sort(rng.permutation(n)[:wanted])  # the same in every epoch
        # Where f is never trained on silence (`to`), it stays as it began: a constant.
        self.silent_features = torch.zeros(1, config.network.n_audio_features, device=device)
        if config.freeze_listener or not VARIANTS[config.variant].audio:
            self.silent_features = self.hear_silence()

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 for f, unless fp32 was asked for or the GPU has no bf16."""
        lacking = self.device.type == "cuda" and not torch.cuda.is_bf16_supported()
        if self._config.precision == "fp32" or (self._config.precision == "auto" and lacking):
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def x_audio(self, made: Crops) -> Tensor:
        """(n, 128, t) dB, clipped to the range under each crop's own maximum."""
        if made.decibels is None:
            return self.log_mel(torch.from_numpy(made.samples).to(self.device))  # type: ignore[no-any-return]
        decibels = torch.from_numpy(made.decibels).to(self.device)
        return torch.maximum(decibels, decibels.amax(dim=(-2, -1), keepdim=True) - self._config.listen.dynamic_range_db)

    @torch.no_grad()
    def hear(self, rows: Sequence[Row], progress: Progress | None = None) -> Tensor:
        """(n, 2048): each row's window exactly as served, by f in evaluation mode."""
        was_training = self._network.f.training
        self._network.f.eval()
        parts = [torch.zeros(0, self._config.network.n_audio_features, device=self.device)]
        task = progress.add_task("listening", total=len(rows)) if progress else None
        for i in range(0, len(rows), WINDOWS_AT_ONCE):
            part = rows[i : i + WINDOWS_AT_ONCE]
            made = windows(self._data, part, self._config.listen)
            with self.autocast():
                x_audio = self.x_audio(made).unsqueeze(1)
                parts.append(self._network.f(x_audio.contiguous(memory_format=torch.channels_last)).float())
            if progress and task is not None:
                progress.advance(task, len(part))
        self._network.f.train(was_training)
        return torch.cat(parts)

    @torch.no_grad()
    def hear_silence(self) -> Tensor:
        """f(0), (1, 2048): in fp32, as a release computes it."""
        was_training = self._network.f.training
        self._network.f.eval()
        listen = self._config.listen
        features = self._network.f(torch.zeros(1, 1, listen.mel_bands, listen.window_frames, device=self.device))
        self._network.f.train(was_training)
        return features  # type: ignore[no-any-return]

    def memorise(self, progress: Progress) -> None:
        """Hears all rows with audio once, for a training that keeps f."""
        self._memory = self.hear(self._data.train.rows, progress)
        self._valid_memory = self.hear([self._data.valid.rows[i] for i in self.valid_rows], progress)

    def remembered(self, indices: npt.NDArray[np.int64]) -> Tensor:
        """(k, 2048) of training rows; `memorise` comes first."""
        assert self._memory is not None
        return self._memory[torch.from_numpy(indices).to(self.device)]

    def hear_valid(self) -> Tensor:
        """(n_valid, 2048); each process of a team hears its share."""
        if self._memory is not None:
            return self._valid_memory
        own = self.hear([self._data.valid.rows[i] for i in self.team.share(self.valid_rows)])
        return self.team.together(own, len(self.valid_rows))


@dataclass(frozen=True, slots=True)
class Case:
    """One mix of modalities on validation rows."""

    loss: float  # mean negative log-likelihood, nats
    accuracy: float
    rows: int


@dataclass(frozen=True, slots=True)
class Report:
    cases: dict[Mode, Case]

    @property
    def loss(self) -> float:
        """Mean over the cases the variant was trained for: what early stopping watches."""
        return float(np.mean([case.loss for case in self.cases.values()]))


def modes_of(config: TrainConfig) -> list[Mode]:
    """The cases a variant is trained for."""
    kind = VARIANTS[config.variant]
    modes: list[Mode] = ["both"] if kind.audio and kind.text else []
    if kind.drop_text or not kind.text:
        modes.append("audio_only")
    if kind.drop_audio or not kind.audio:
        modes.append("text_only")
    return modes


@torch.no_grad()
def answers(config: TrainConfig, data: Data, network: LridNet, ear: Ear) -> dict[Mode, tuple[Tensor, Tensor]]:
    """Logits (n, n_classes) and truth (n,) in each case: whole windows, with `network` in evaluation mode.

    A case whose modality the variant does without has no rows. text_only has the rows with audio and those without.
    """
    kind, valid, chosen = VARIANTS[config.variant], data.valid, ear.valid_rows
    s_audio = ear.hear_valid() if kind.audio else ear.silent_features[:0]
    silence = ear.silent_features if config.freeze_listener or not kind.audio else ear.hear_silence()
    x_lang = torch.from_numpy(valid.x_lang[chosen]).to(ear.device)
    labels = torch.from_numpy(valid.labels[chosen]).to(ear.device)
    all_x = torch.cat([x_lang, torch.from_numpy(valid.text_x_lang).to(ear.device)])
    all_labels = torch.cat([labels, torch.from_numpy(valid.text_labels).to(ear.device)])
    n_both, n_text = len(labels) * kind.text, len(all_labels) * kind.text
    inputs: dict[Mode, tuple[Tensor, Tensor, Tensor]] = {
        "both": (s_audio[:n_both], x_lang[:n_both], labels[:n_both]),
        "audio_only": (s_audio, torch.zeros_like(x_lang), labels),
        "text_only": (silence.expand(n_text, -1), all_x[:n_text], all_labels[:n_text]),
    }
    return {
        mode: (network.h(torch.cat([audio, network.g(text)], dim=1)) if len(truth) else audio[:, :0], truth)
        for mode, (audio, text, truth) in inputs.items()
    }


def validate(config: TrainConfig, data: Data, network: LridNet, ear: Ear) -> Report:
    """The cases that the variant is trained for."""
    network.eval()
    found = answers(config, data, network, ear)
    cases: dict[Mode, Case] = {}
    for mode in modes_of(config):
        logits, truth = found[mode]
        if len(truth):
            correct = (logits.argmax(dim=1) == truth).float().mean()
            cases[mode] = Case(cross_entropy(logits, truth).item(), correct.item(), len(truth))
    return Report(cases)
