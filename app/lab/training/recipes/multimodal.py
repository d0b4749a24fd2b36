"""Vocals, timbre and consumption → language (Lee & Coviello), with replicas for what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.domain import AUDIO, FloatArray
from app.families.contract import Target
from app.families.multimodal.manifest import MultimodalManifest, TimbralConfig
from app.families.multimodal.model import CONSUMPTION, HEAD, TIMBRAL
from app.families.multimodal.timbral import TimbralHistogram
from app.families.parts.whisper_weights import stored_ears
from app.lab.corpus.catalogue import read_catalogue
from app.lab.errors import CheckpointError, CorpusError
from app.lab.evaluation.acceptance import acceptance, tuned_thresholds
from app.lab.evaluation.answers import REST, EvaluationSet
from app.lab.evaluation.evaluate import Options
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Recipe
from app.lab.training.recipes.multimodal_config import MultimodalConfig
from app.lab.training.recipes.multimodal_data import Songs, heard_songs, songs_of
from app.lab.training.recipes.multimodal_listen import Listening, kept_codebook
from app.lab.training.recipes.multimodal_measures import evaluate, measure
from app.lab.training.recipes.multimodal_network import MultimodalNetwork
from app.lab.training.voice_parts import FirstEars, ears_to_begin_with
from app.lab.training.voice_release import UNNAMED

Drop = Literal["nothing", "consumption", "audio"]
Batch = list[tuple[int, Drop]]  # segments, and what their replica lacks


class MultimodalRecipe(Recipe[MultimodalConfig, Batch]):
    """Songs are fanned out to their segments; a song's answer is the sum of its segments' by their seconds."""

    name: ClassVar[str] = "multimodal"
    family: ClassVar[str] = "multimodal"
    config_type: ClassVar[type[TrainConfig]] = MultimodalConfig
    songs: Songs | None = None  # variants share them
    timbral: TimbralHistogram | None = None

    @property
    def measured_on(self) -> Path | None:
        """Cached features have no audio to answer as a server would."""
        return None if self.config.features else self.config.catalogue

    def prepare(self, progress: Progress) -> None:
        if self.songs is None:
            self._listen(progress)
        songs = self.songs
        assert songs is not None
        self.sizes = dict.fromkeys(("vocals", "timbral", "consumption"), 0)
        self.sizes |= {name: getattr(songs, name).shape[1] for name in self.config.inputs}
        if not any(self.sizes.values()):
            raise CorpusError(f"no song has any of the inputs {', '.join(self.config.inputs)}")
        raw = np.concatenate([songs.part(name)[:, :size] for name, size in self.sizes.items()], axis=1)
        own = songs.splits[songs.owner]
        if {"train", "valid"} - set(own):
            raise CorpusError(f"{self.config.catalogue}: songs that sound are needed in both splits, train and valid")
        self._mean, self._scale = _moments(raw[own == "train"])
        self.fallback = self.fallback_of(self.config.replica[0])
        self._x = torch.from_numpy((raw - self._mean) / self._scale)  # (n_segments, d), NaN where missing
        self._y = torch.from_numpy(songs.labels[songs.owner])
        self.figures: dict[str, Any] = {}

    def _listen(self, progress: Progress) -> None:
        """Features of all songs, and the codebook that they are made with."""
        config = self.config
        if config.features is not None:
            self.songs = heard_songs(
                config.features, config.codes, config.most_windows, config.seed, with_sessions=config.made_sessions
            )
            return
        rows = read_catalogue(config.catalogue, config.codes, rest=REST if REST in config.codes else None)
        rows = [row for row in rows if row.path is not None]
        if not rows:
            raise CorpusError(f"{config.catalogue}: no row has audio")
        listening = Listening(self._first_ears().ears, None, config.segments, config.most_windows)
        if "timbral" in config.inputs:
            wanted = TimbralConfig(n_mels=config.n_mels, n_components=1, n_codewords=config.n_codewords)
            learnt_from = [row for row in rows if row.split == "train"]
            cache = config.cache_folder
            self.timbral = kept_codebook(learnt_from, listening.window, wanted, config.variance, cache, progress)
        listening = replace(listening, timbral=self.timbral)
        heard = listening.features(rows, self._target(), config.cache_folder, progress)
        self.songs = songs_of(rows, heard, listening.ears.config.n_state, config.segments)

    def _first_ears(self) -> FirstEars:
        config = self.config
        return ears_to_begin_with(config.store, config.start, config.checkpoint, config.n_positions)

    def _target(self) -> Target:
        cuda = self.config.torch_device.type == "cuda"
        return Target("cuda", "bf16") if cuda else Target("cpu", "fp32", threads=torch.get_num_threads())

    def fallback_of(self, kind: str) -> FloatArray:
        """(c,) standardised: of zeros for Z, else of the average, which is 0."""
        own = slice(len(self._mean) - self.sizes["consumption"], None)
        return -self._mean[own] / self._scale[own] if kind == "Z" else np.zeros_like(self._mean[own])

    def build(self) -> MultimodalNetwork:
        config = self.config
        timbral = self.timbral if self.sizes["timbral"] else None
        codebook = None if timbral is None else self._codebook(timbral.components.shape[0])
        network = MultimodalNetwork(config.network, self.sizes, len(config.labels), codebook)
        network.mean.copy_(torch.from_numpy(self._mean))
        network.scale.copy_(torch.from_numpy(self._scale))
        network.fallback.copy_(torch.from_numpy(self.fallback))
        if network.timbral is not None and timbral is not None:
            network.timbral.load_state_dict(timbral.state_dict())
        return network

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam with the paper's L2 regularisation."""
        return torch.optim.Adam(network.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay)

    def examples(self, split: str) -> Batch:
        """Every segment of the split, and its replicas."""
        assert self.songs is not None
        found: Batch = [(int(i), "nothing") for i in np.flatnonzero(self.songs.splits[self.songs.owner] == split)]
        full = [i for i, _ in found if self.sizes["consumption"] and not self._x[i, -1].isnan()]
        if self.config.replica != "none":
            found += [(i, "consumption") for i in full]
        return found + ([(i, "audio") for i in full] if self.config.audio_replica else [])

    @property
    def steps_per_epoch(self) -> int:
        return self.config.steps_per_epoch or max(1, len(self.examples("train")) // self.config.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All examples in another order each epoch, the last batch left out if it is not full."""
        examples, size = self.examples("train"), self.config.batch_size
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(examples))
        for step in range(self.steps_per_epoch):
            yield [examples[i] for i in np.resize(order, (step + 1) * size)[step * size :]]

    def loss(self, network: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        noise = self.config.noise if self.config.replica.endswith("G") else 0.0
        return cross_entropy(network(self.inputs(batch, self.fallback, noise)), self._labels(batch))

    def inputs(self, batch: Batch, fallback: FloatArray, noise: float = 0.0) -> Tensor:
        """(n, d) standardised; what is missing has the fallback, with noise for +G, or 0, which is the average."""
        c = self.sizes["consumption"]
        x = self._x[[segment for segment, _ in batch]]
        audio, consumption = x[:, : x.shape[1] - c], x[:, x.shape[1] - c :]
        audio = torch.where(_rows(batch, "audio"), torch.nan, audio).nan_to_num(0.0)
        instead = torch.from_numpy(fallback).expand(len(x), c)
        instead = instead + noise * torch.randn(len(x), c) if noise else instead
        missing = _rows(batch, "consumption") | consumption.isnan()
        return torch.cat([audio, torch.where(missing, instead, consumption)], dim=1).to(self.config.torch_device)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """The loss over all examples that validation songs give; mAP and thresholds of those songs as they are."""
        examples, n = self.examples("valid"), self.config.batch_size * 8
        some = [examples[i : i + n] for i in range(0, len(examples), n)]
        losses = [cross_entropy(network(self.inputs(b, self.fallback)), self._labels(b), reduction="sum") for b in some]
        labels, probabilities = self.answers(network, "valid")
        thresholds = tuned_thresholds(labels, probabilities)
        found = acceptance(labels, probabilities, thresholds)
        self.figures = {"thresholds": {mode: self._tuned(network, drop) for mode, drop in self._modes().items()}}
        mean_precision, right = found.means()[-1], float((probabilities.argmax(axis=1) == labels).mean())
        return {"loss": float(torch.stack(losses).sum()) / len(examples), "mAP": mean_precision, "accuracy": right}

    def _modes(self) -> dict[str, Drop]:
        """What a release is asked with, everything first."""
        if not self.sizes[CONSUMPTION]:
            return {AUDIO: "nothing"}
        return {f"{AUDIO}+{CONSUMPTION}": "nothing", AUDIO: "consumption", CONSUMPTION: "audio"}

    def _tuned(self, network: nn.Module, drop: Drop) -> list[float]:
        """(n_classes,) thresholds on the validation songs."""
        return tuned_thresholds(*self.answers(network, "valid", drop)).tolist()  # type: ignore[no-any-return]

    @torch.no_grad()
    def answers(
        self, network: nn.Module, split: str, drop: Drop = "nothing", fallback: FloatArray | None = None
    ) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Labels (n,) of the split's songs and probabilities (n, n_classes): their segments' by duration."""
        songs, fallback = self.songs, self.fallback if fallback is None else fallback
        assert songs is not None
        mine = np.flatnonzero(songs.splits[songs.owner] == split)
        found = [network(self.inputs([(int(i), drop) for i in part], fallback)).softmax(dim=1).cpu().numpy()
                 for part in np.array_split(mine, 1 + len(mine) // 512)]  # fmt: skip
        weighted = np.concatenate(found) * songs.seconds[mine, None]
        owners, place = np.unique(songs.owner[mine], return_inverse=True)
        summed = np.zeros((len(owners), weighted.shape[1]), np.float32)
        np.add.at(summed, place, weighted)
        return songs.labels[owners], summed / summed.sum(axis=1, keepdims=True)

    def _labels(self, batch: Batch) -> Tensor:
        return self._y[[segment for segment, _ in batch]].to(self.config.torch_device)

    def fingerprint(self) -> str:
        """Of all features, labels and splits."""
        assert self.songs is not None
        arrays = (self._x.numpy(), self._y.numpy(), self.songs.seconds, self.songs.splits)
        return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        assert self.songs is not None
        counts = np.bincount(self.songs.labels[self.songs.splits == "train"], minlength=len(self.config.labels))
        shares = dict(zip(self.config.codes, (counts / counts.sum()).tolist(), strict=True))
        components = 0 if self.timbral is None else self.timbral.components.shape[0]
        return self.figures | {"sizes": self.sizes, "class_prior": shares, "components": components}

    @classmethod
    def evaluate(cls, folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
        """mAP, precision, recall and F1 in the cases of the release."""
        return evaluate(folder, chosen, output, options, progress)

    def _codebook(self, n_components: int) -> TimbralConfig:
        config = self.config
        return TimbralConfig(n_mels=config.n_mels, n_components=n_components, n_codewords=config.n_codewords)

    def export(self, stored: dict[str, Any]) -> Draft:
        """The ears are read again from where they came from. Raises CheckpointError for a network without vocals."""
        config, facts = self.config, stored["facts"]
        sizes: Mapping[str, int] = facts["sizes"]
        ears = self._first_ears().ears
        if sizes["vocals"] != ears.config.n_state:
            raise CheckpointError(
                f"a release needs vocals of these ears, {ears.config.n_state} numbers; it has {sizes['vocals']}"
            )
        codebook = self._codebook(facts["components"]) if sizes["timbral"] else None
        network = MultimodalNetwork(config.network, sizes, len(config.labels), codebook)
        network.load_state_dict(stored["network"])
        tensors = stored_ears(ears) | {HEAD + name: tensor for name, tensor in network.stored().items()}
        if network.timbral is not None:
            tensors |= {TIMBRAL + name: tensor.clone() for name, tensor in network.timbral.state_dict().items()}
        manifest = MultimodalManifest(
            family=self.family,
            release="draft",
            created=date.today(),
            labels=list(config.labels),
            sha256=UNNAMED,
            training={"class_prior": facts["class_prior"], "ears": str(config.checkpoint or config.start)},
            metrics={},
            listen=ears.config,
            segments=config.segments,
            most_windows=config.most_windows,
            timbral=codebook,
            consumption=sizes["consumption"],
            network=config.network,
            thresholds={mode: dict(zip(config.codes, own, strict=True)) for mode, own in facts["thresholds"].items()},
        )
        about = f"A 1-D ResNet of {', '.join(config.inputs)} (Lee & Coviello), replicas {config.replica}"
        return Draft(manifest, tensors, about, calibrated=True, measure=measure)


def _moments(raw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each number where it is not missing; 0 and 1 where it always is, or never varies."""
    known = ~np.isnan(raw)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, raw, 0).sum(axis=0, dtype=np.float64) / count
    spread = np.sqrt((np.where(known, raw - mean, 0) ** 2).sum(axis=0) / count)
    return mean.astype(np.float32), np.where(spread > 1e-6, spread, 1).astype(np.float32)


def _rows(batch: Batch, drop: Drop) -> Tensor:
    """(n, 1): whether an example is a replica without this."""
    return torch.tensor([own == drop for _, own in batch])[:, None]
