"""Trains LRID-Net as Choi & Wang 2021 do (§3.4, §4.2), in its six variants. Read `loss` first.

A batch is `batch_size` rows with audio; where no row has any, or the variant is for text alone, with metadata. A dropped
audio is a zero spectrogram. All of them have the same features, so f listens to one zero item for the whole batch, and
BatchNorm counts it once.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.audio.spec import WindowRequest, WindowSpec
from app.domain import FloatArray
from app.families.lrid_net.config import ListenConfig, LridNetManifest, NetworkConfig, ReadConfig
from app.families.lrid_net.network import LogMel, LridNet
from app.families.lrid_net.read import LangdetectReader
from app.families.parts.profiles import langdetect_languages
from app.lab.caches import MAX_WINDOWS, text_vectors
from app.lab.corpus.catalogue import Row, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.errors import CorpusError
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, IntArray
from app.lab.training.recipes.songs import Clips, SongRecipe, class_mix, has_audio

VariantName = Literal["main", "adr", "tdr", "atdr", "to", "ao"]
ModeName = Literal["both", "audio_only", "text_only"]
LANGDETECT_SEED = 0
WINDOWS_AT_ONCE = 8
# Strided 1x1 convolutions of fewer than 16 input channels (4 base channels) write past the end of their weights' gradient
# with two threads or more: oneDNN's AVX-512 kernels as torch 2.11 has them, in fp32 and in bf16.
LEAST_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """Says which modalities are used, and which are dropped at random (paper §3.4, table 2)."""

    audio: bool = True
    text: bool = True
    drop_audio: bool = False
    drop_text: bool = False

    @property
    def modes(self) -> list[ModeName]:
        """Lists the cases it is trained for."""
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


class LridNetConfig(TrainConfig):
    """Defaults are the paper's where it states them."""

    variant: VariantName = "atdr"
    dropout_rate: float = Field(0.2, ge=0, lt=1)  # of whole items (paper §3.4)
    crop_seconds: float = Field(30.0, ge=0)  # of training audio, anywhere; 0 = whole windows, as validation listens
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of f
    listen: ListenConfig = Field(default_factory=ListenConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.network.base_channels < LEAST_CHANNELS:
            raise ValueError(f"network.base_channels: at least {LEAST_CHANNELS}; gradients of narrower ones crash on a CPU")
        return self

    @property
    def kind(self) -> Variant:
        return VARIANTS[self.variant]


@dataclass(frozen=True)
class Songs(Clips):
    """Holds the rows of a split: those with audio come first, then those of which only the metadata is used."""

    x_lang: FloatArray  # (n, 56)

    @cached_property
    def n_audio(self) -> int:
        return sum(map(has_audio, self.rows))

    @property
    def n_trained(self) -> int:
        """Counts the rows that are learnt from: those with audio, or all where none has any."""
        return self.n_audio or len(self.rows)


@dataclass(frozen=True, slots=True)
class Case:
    """Holds answers to the validation rows that have what a mode needs."""

    logits: Tensor  # (n, n_classes)
    labels: Tensor  # (n,)


class LridNetRecipe(SongRecipe[LridNetConfig]):
    """f listens, g reads, h identifies."""

    name: ClassVar[str] = "lrid_net"
    family: ClassVar[str] = "lrid_net"
    config_type: ClassVar[type[TrainConfig]] = LridNetConfig
    songs: Songs
    valid: Songs

    def prepare(self, progress: Progress) -> None:
        config, kind, window = self.config, self.config.kind, self.config.listen.window
        rows = read_catalogue(config.catalogue, config.codes)
        for finding in refuse_leaks(rows, config.codes):
            progress.say(f"{config.catalogue.name}, {finding}")
        rows = [row if kind.audio else replace(row, path=None) for row in rows if row.split != "test"]
        heard = [row for row in rows if has_audio(row)]
        used = heard + [row for row in rows if row.metadata.fields and kind.text and not has_audio(row)]
        crop = replace(window, window_samples=round(config.crop_seconds * window.sample_rate_hz) or window.window_samples)
        train, valid = ([row for row in used if row.split == split] for split in ("train", "valid"))
        self.valid, self.songs = self._songs(valid, window, progress), self._songs(train, crop, progress)
        self.n_examples = self.songs.n_trained
        if self.n_examples < config.batch_size:
            what = f"fewer usable training rows than one batch of {config.batch_size}"
            raise CorpusError(f"{what}; lower batch_size or add rows")
        if not valid:
            raise CorpusError("no row has split=valid; early stopping needs some (the paper splits 80:20 by artist)")
        self._log_mel = LogMel(config.listen).to(config.torch_device)

    def _songs(self, rows: list[Row], heard: WindowSpec, progress: Progress) -> Songs:
        cache, request, languages = (
            self.config.cache_folder,
            WindowRequest(self.config.listen.window, MAX_WINDOWS),
            langdetect_languages(),
        )
        reader = LangdetectReader(languages, seed=LANGDETECT_SEED)
        identity = f"langdetect {','.join(languages)} seed {LANGDETECT_SEED}"
        x_lang = text_vectors(cache, [row.metadata for row in rows], reader, identity, progress)
        request = WindowRequest(self.config.listen.window, MAX_WINDOWS)
        return Songs.decoded(rows, request, heard, cache, progress, x_lang=x_lang)

    def build(self) -> LridNet:
        """Returns the network of the variant, with its modality dropout."""
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

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns the cross-entropy of a batch, a scalar."""
        assert isinstance(network, LridNet)
        s_audio = self._listen(network, batch, rng)  # (n, 2048)
        x_lang = network.drop_text(self.tensor(self.songs.x_lang[batch]) * self.config.kind.text)  # (n, 56)
        logits = network.h(torch.cat([s_audio, network.g(x_lang)], dim=1))  # (n, n_classes)
        return cross_entropy(logits, self.tensor(self.songs.labels[batch]))

    def _listen(self, network: LridNet, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns (n, 2048), of silence where audio is dropped. Dropped audio runs too: each new shape compiles kernels."""
        if not self.songs.n_audio:
            return self._of_silence(network).expand(len(batch), -1)
        draw = self.songs.crops if self.config.crop_seconds else self.songs.drawn
        x_audio = self._log_mel(self.tensor(draw(batch, rng)))  # (n, 128, t)
        if not self.config.kind.drop_audio:
            return self._f(network, x_audio)
        table = self._f(network, torch.cat([x_audio, x_audio.new_zeros(1, *x_audio.shape[1:])]))  # (n + 1, 2048)
        kept = network.drop_audio(torch.ones(len(batch), 1))[:, 0] > 0  # (n,) ModalityDropout on whole items
        return table[torch.where(kept, torch.arange(len(batch)), len(batch)).to(table.device)]

    def _f(self, network: LridNet, x_audio: Tensor) -> Tensor:
        with self._autocast():
            return network.f(x_audio.unsqueeze(1).contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def _autocast(self) -> torch.autocast:
        """Uses bf16 for f, unless fp32 was asked for or the GPU has no bf16."""
        wanted, device = self.config.precision, self.config.torch_device.type
        mixed = wanted == "bf16" or (wanted == "auto" and (device != "cuda" or torch.cuda.is_bf16_supported()))
        return torch.autocast(device, torch.bfloat16, enabled=mixed)

    @torch.no_grad()
    def _of_silence(self, network: LridNet) -> Tensor:
        """Returns f(0), (1, 2048), of f in evaluation mode and fp32: as a release computes it."""
        training, listen = network.f.training, self.config.listen
        x_audio = torch.zeros(1, 1, listen.mel_bands, listen.window_frames, device=self.config.torch_device)
        features = network.f.eval()(x_audio)
        network.f.train(training)
        return features  # type: ignore[no-any-return]

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures loss and accuracy of each case that the variant is trained for; `loss` is their mean."""
        assert isinstance(network, LridNet)
        found = {mode: case for mode, case in self.cases(network).items() if mode in self.config.kind.modes}
        losses = {f"loss_{mode}": cross_entropy(case.logits, case.labels).item() for mode, case in found.items()}
        right = {f"accuracy_{mode}": (c.logits.argmax(dim=1) == c.labels).float().mean().item() for mode, c in found.items()}
        return {"loss": float(np.mean(list(losses.values())))} | losses | right

    @torch.no_grad()
    def cases(self, network: LridNet) -> dict[ModeName, Case]:
        """Answers whole windows as served, with `network` in evaluation mode; a case without rows is left out."""
        n, none = self.valid.n_audio, torch.zeros(0, self.config.network.n_audio_features, device=self.config.torch_device)
        places = np.stack([np.arange(n), np.zeros(n, np.int64)], axis=1)  # first windows
        windows = [self.valid.windows(places[i : i + WINDOWS_AT_ONCE]) for i in range(0, n, WINDOWS_AT_ONCE)]
        heard = [self._f(network, self._log_mel(self.tensor(some))).float() for some in windows]
        s_audio = torch.cat([*heard, none])  # (n, 2048)
        x_lang, labels = self.tensor(self.valid.x_lang), self.tensor(self.valid.labels)
        silence = self._of_silence(network).expand(len(labels), -1)
        inputs: dict[ModeName, tuple[Tensor, Tensor, Tensor]] = {
            "audio_only": (s_audio, torch.zeros_like(x_lang[:n]), labels[:n])
        }
        if self.config.kind.text:
            inputs |= {"both": (s_audio, x_lang[:n], labels[:n]), "text_only": (silence, x_lang, labels)}
        return {
            mode: Case(network.h(torch.cat([audio, network.g(text)], dim=1)), truth)
            for mode, (audio, text, truth) in inputs.items()
            if len(truth)
        }

    def facts(self) -> dict[str, Any]:
        train = self.songs
        rows = {"audio": train.n_audio, "text": train.n_trained - train.n_audio}
        return {"rows": rows, "class_prior": class_mix(train.labels[: train.n_trained], self.config.codes)}

    def export(self, stored: dict[str, Any]) -> Draft:
        """Stores convolutions and matrices in fp16, BatchNorm and biases in fp32, no batch counters."""
        tensors = {
            name: (tensor.half() if tensor.dim() > 1 else tensor.float()).contiguous()
            for name, tensor in stored["network"].items()
            if "num_batches" not in name
        }
        config = self.config
        manifest = LridNetManifest(
            **self.unnamed(config.labels, {"variant": config.variant, **stored["facts"]}),
            temperature={},
            thresholds={},
            listen=config.listen,
            read=ReadConfig(languages=list(langdetect_languages()), seed=LANGDETECT_SEED),
            network=config.network,
        )
        return Draft(manifest, tensors, f"LRID-Net (Choi & Wang 2021), variant `{config.variant}`")
