"""LRID-Net as Choi & Wang 2021 train it (§3.4, §4.2), in its six variants. Read `loss` first.

A batch is `batch_size` rows with audio and, if asked for, `text_rows_per_batch` rows with metadata only. A missing audio,
dropped or never there, is a zero spectrogram. All of them have the same features, so f listens to one zero item for the
whole batch, and BatchNorm counts it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.families.lrid_net.config import LridNetManifest, NetworkConfig, ReadConfig
from app.families.lrid_net.listen import LogMel
from app.families.lrid_net.network import LridNet
from app.families.parts.profiles import langdetect_languages
from app.lab.errors import CheckpointError
from app.lab.progress import Progress
from app.lab.training import augment
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Recipe
from app.lab.training.recipes.lrid_net_data import Data, DataConfig, prepare

VariantName = Literal["main", "adr", "tdr", "atdr", "to", "ao"]
ModeName = Literal["both", "audio_only", "text_only"]
WINDOWS_AT_ONCE = 8
# Strided 1x1 convolutions of fewer than 16 input channels (4 base channels) write past the end of their weights' gradient
# with two threads or more: oneDNN's AVX-512 kernels as torch 2.11 has them, in fp32 and in bf16.
LEAST_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """Which modalities are used, and which are dropped at random (paper §3.4, table 2)."""

    audio: bool = True
    text: bool = True
    drop_audio: bool = False
    drop_text: bool = False

    @property
    def modes(self) -> list[ModeName]:
        """The cases it is trained for."""
        modes: list[ModeName] = ["both"] if self.audio and self.text else []
        modes += ["audio_only"] if self.drop_text or not self.text else []
        return modes + (["text_only"] if self.drop_audio or not self.audio else [])


VARIANTS: dict[str, Variant] = {
    "main": Variant(),
    "adr": Variant(drop_audio=True),
    "tdr": Variant(drop_text=True),
    "atdr": Variant(drop_audio=True, drop_text=True),
    "to": Variant(audio=False),
    "ao": Variant(text=False),
}


class LridNetConfig(DataConfig):
    """Defaults are the paper's where it states them."""

    variant: VariantName = "atdr"
    dropout_rate: float = Field(0.2, ge=0, lt=1)  # of whole items (paper §3.4)
    augment: bool = False  # random speed, level, channel and hidden bands of the training audio
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of f
    network: NetworkConfig = Field(default_factory=NetworkConfig)

    @model_validator(mode="after")
    def _settings_fit(self) -> LridNetConfig:
        if self.text_rows_per_batch and not self.kind.drop_audio:
            raise ValueError("text_rows_per_batch: rows without audio are a kind of audio dropout; use variant adr or atdr")
        if self.network.base_channels < LEAST_CHANNELS:
            raise ValueError(f"network.base_channels: at least {LEAST_CHANNELS}; gradients of narrower ones crash on a CPU")
        return self

    @property
    def kind(self) -> Variant:
        return VARIANTS[self.variant]


@dataclass(frozen=True, slots=True)
class Batch:
    audio: np.ndarray[Any, np.dtype[np.int64]]  # rows of `Data.train` with audio
    text: np.ndarray[Any, np.dtype[np.int64]]  # rows of `Data.train` with metadata only


@dataclass(frozen=True, slots=True)
class Case:
    """Answers to the validation rows that have what a mode needs."""

    logits: Tensor  # (n, n_classes)
    labels: Tensor  # (n,)


class LridNetRecipe(Recipe[LridNetConfig, Batch]):
    """f listens, g reads, h identifies."""

    name: ClassVar[str] = "lrid_net"
    family: ClassVar[str] = "lrid_net"
    config_type: ClassVar[type[TrainConfig]] = LridNetConfig
    data: Data

    def prepare(self, progress: Progress) -> None:
        self.data = prepare(self.config, audio=self.config.kind.audio, text=self.config.kind.text, progress=progress)
        self._log_mel = LogMel(self.config.listen).to(self.config.torch_device)

    def build(self) -> LridNet:
        """The network of the variant, with its modality dropout."""
        kind, rate = self.config.kind, self.config.dropout_rate
        network = LridNet(
            self.config.network,
            n_text=len(langdetect_languages()) + 1,
            n_classes=len(self.config.labels),
            audio_dropout=rate * kind.drop_audio,
            text_dropout=rate * kind.drop_text,
        )
        with torch.no_grad():  # decibels have a large mean: filters that ignore it are better conditioned
            network.f.conv1.weight -= network.f.conv1.weight.mean(dim=(2, 3), keepdim=True)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    @property
    def steps_per_epoch(self) -> int:
        n = self.data.train.n_audio or self.data.train.n_text
        return self.config.steps_per_epoch or max(1, n // self.config.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Rows with audio come in turn; text rows are drawn (see `Data.text_probabilities`)."""
        config, train = self.config, self.data.train
        rng = np.random.default_rng([config.seed, epoch])
        n_audio = config.batch_size if train.n_audio else 0
        n_text = config.text_rows_per_batch if train.n_audio else config.batch_size
        drawn = self.data.text_probabilities
        order = np.zeros(0, np.int64)
        for _ in range(self.steps_per_epoch):
            while len(order) < n_audio:
                order = np.concatenate([order, rng.permutation(train.n_audio)])
            text = rng.choice(len(drawn), n_text, p=drawn) if len(drawn) and n_text else order[:0]
            yield Batch(order[:n_audio], text)
            order = order[n_audio:]

    def loss(self, network: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of a batch, a scalar."""
        assert isinstance(network, LridNet)
        train, device, n_audio = self.data.train, self.config.torch_device, len(batch.audio)
        heard, silent = self._listen(network, batch, rng)
        table = torch.cat([heard, silent])  # (A + 1, 2048); without the last row where no audio is ever missing
        kept = network.drop_audio(torch.ones(n_audio, 1))[:, 0] > 0  # (A,) ModalityDropout on whole items
        row_of = torch.where(kept, torch.arange(n_audio), len(heard))  # (A,) the last row of the table is silence
        row_of = torch.cat([row_of, torch.full((len(batch.text),), len(heard))]).to(device)  # (A + T,)
        s_audio = table[row_of]  # (A + T, 2048)

        x_lang = torch.from_numpy(np.concatenate([train.x_lang[batch.audio], train.text_x_lang[batch.text]])).to(device)
        x_lang = network.drop_text(x_lang * self.config.kind.text)  # (A + T, 56)
        logits = network.h(torch.cat([s_audio, network.g(x_lang)], dim=1))  # (A + T, n_classes)
        labels = np.concatenate([train.labels[batch.audio], train.text_labels[batch.text]])
        return cross_entropy(logits, torch.from_numpy(labels).to(device))

    def _listen(self, network: LridNet, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Features of the rows, (A, 2048), and of silence, (1, 2048), or (0, 2048) where it is not needed.

        Dropped rows are listened to as well: the shapes stay the same, and each new one means compiling kernels on a CPU.
        """
        if not len(batch.audio):
            return self._of_silence(network).expand(0, -1), self._of_silence(network)
        rows = [self.data.train.rows[i] for i in batch.audio]
        crops = self.data.crops(rows, self.config, augment.SPEED * self.config.augment, rng)  # (A, crop_samples)
        x_audio = self._log_mel(torch.from_numpy(crops).to(self.config.torch_device))  # (A, 128, t)
        if self.config.augment:
            x_audio = augment.colour(x_audio, rng)
        if self.config.kind.drop_audio:
            x_audio = torch.cat([x_audio, x_audio.new_zeros(1, *x_audio.shape[1:])])
        features = self._f(network, x_audio)  # (A or A + 1, 2048)
        return features[: len(rows)], features[len(rows) :]

    def _f(self, network: LridNet, x_audio: Tensor) -> Tensor:
        with self._autocast():
            return network.f(x_audio.unsqueeze(1).contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def _autocast(self) -> AbstractContextManager[object]:
        """bf16 for f, unless fp32 was asked for or the GPU has no bf16."""
        config, device = self.config, self.config.torch_device.type
        lacking = device == "cuda" and not torch.cuda.is_bf16_supported()
        if config.precision == "fp32" or (config.precision == "auto" and lacking):
            return nullcontext()
        return torch.autocast(device, torch.bfloat16)

    @torch.no_grad()
    def _of_silence(self, network: LridNet) -> Tensor:
        """f(0), (1, 2048), of f in evaluation mode and fp32: as a release computes it. Constant where f is not trained."""
        training, listen = network.f.training, self.config.listen
        x_audio = torch.zeros(1, 1, listen.mel_bands, listen.window_frames, device=self.config.torch_device)
        features = network.f.eval()(x_audio)
        network.f.train(training)
        return features  # type: ignore[no-any-return]

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Loss and accuracy of each case that the variant is trained for; `loss` is their mean."""
        assert isinstance(network, LridNet)
        found = {mode: case for mode, case in self.cases(network).items() if mode in self.config.kind.modes}
        losses = {f"loss_{mode}": cross_entropy(case.logits, case.labels).item() for mode, case in found.items()}
        right = {f"accuracy_{mode}": (c.logits.argmax(dim=1) == c.labels).float().mean().item() for mode, c in found.items()}
        return {"loss": float(np.mean(list(losses.values())))} | losses | right

    @torch.no_grad()
    def cases(self, network: LridNet) -> dict[ModeName, Case]:
        """Whole windows as served, with `network` in evaluation mode; a case without rows is left out."""
        kind, valid, device = self.config.kind, self.data.valid, self.config.torch_device
        none = torch.zeros(0, self.config.network.n_audio_features, device=device)
        s_audio = torch.cat([*self._heard_valid(network), none])  # (n, 2048)
        x_lang, text_x_lang = (torch.from_numpy(x).to(device) for x in (valid.x_lang, valid.text_x_lang))
        labels, text_labels = (torch.from_numpy(x).to(device) for x in (valid.labels, valid.text_labels))
        every_x, every_label = torch.cat([x_lang, text_x_lang]), torch.cat([labels, text_labels])
        silence = self._of_silence(network).expand(len(every_label), -1)
        inputs: dict[ModeName, tuple[Tensor, Tensor, Tensor]] = {"audio_only": (s_audio, torch.zeros_like(x_lang), labels)}
        if kind.text:
            inputs |= {"both": (s_audio, x_lang, labels), "text_only": (silence, every_x, every_label)}
        return {
            mode: Case(network.h(torch.cat([audio, network.g(text)], dim=1)), truth)
            for mode, (audio, text, truth) in inputs.items()
            if len(truth)
        }

    def _heard_valid(self, network: LridNet) -> Iterator[Tensor]:
        rows, listen = self.data.valid.rows, self.config.listen
        for i in range(0, len(rows), WINDOWS_AT_ONCE):
            samples = np.stack([self.data.window(row, listen) for row in rows[i : i + WINDOWS_AT_ONCE]])
            x_audio = self._log_mel(torch.from_numpy(samples).to(self.config.torch_device))  # (n, 128, 2580)
            yield self._f(network, x_audio).float()

    def fingerprint(self) -> str:
        return self.data.fingerprint()

    def facts(self) -> dict[str, Any]:
        prior = dict(zip(self.config.codes, self.data.class_prior.round(5).tolist(), strict=True))
        return {"rows": {"audio": self.data.train.n_audio, "text": self.data.train.n_text}, "class_prior": prior}

    def export(self, stored: dict[str, Any]) -> Draft:
        """Convolutions and matrices in fp16, BatchNorm and biases in fp32, no batch counters."""
        tensors = {}
        for name, tensor in stored["network"].items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(f"the checkpoint's tensor {name!r} holds NaN or infinite values: train again")
            if "num_batches" not in name:
                tensors[name] = (tensor.half() if tensor.dim() > 1 else tensor.float()).contiguous()
        config = self.config
        manifest = LridNetManifest(
            family="lrid_net",
            release="draft",
            created=date.today(),
            labels=list(config.labels),
            sha256="0" * 64,
            training={"variant": config.variant, **stored["facts"]},
            metrics={},
            temperature={},
            thresholds={},
            listen=config.listen,
            read=ReadConfig(languages=list(langdetect_languages()), seed=config.text_seed),
            network=config.network,
        )
        return Draft(manifest, tensors, f"LRID-Net (Choi & Wang 2021), variant `{config.variant}`")
