"""Learns languages from vocals, timbre and consumption (Lee & Coviello), with replicas for what is missing.

Read `inputs` first. Songs are fanned out to their segments. An example is a segment, and what its replica lacks.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.domain import AUDIO, FloatArray
from app.families.contract import Model, mode_name
from app.families.multimodal.manifest import MultimodalManifest
from app.families.multimodal.model import CONSUMPTION
from app.families.multimodal.network import MultimodalNetwork
from app.families.multimodal.timbral import TimbralHistogram
from app.families.parts.whisper_weights import stored_ears
from app.lab.errors import CheckpointError, CorpusError
from app.lab.evaluation.acceptance import acceptance, acceptance_table, means, tuned_thresholds
from app.lab.evaluation.answers import EvaluationSet, answer, read_inputs
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Figures, IntArray
from app.lab.training.recipes.multimodal_data import (
    NO_AUDIO,
    NO_CONSUMPTION,
    WHOLE,
    Modality,
    MultimodalConfig,
    Songs,
    listened,
)  # fmt: skip
from app.lab.training.recipes.songs import MeasuringRecipe, class_mix, in_parts, stored_tensors

Examples = IntArray  # (n, 2): a segment, and what it lacks
SEGMENTS_AT_ONCE = 512
NOTE = (
    "mAP: area under the precision-recall curve of each language. P, R and F1 where a language is accepted from its own "
    "threshold in that case on, which gave the best F1 on split `valid`. The mean leaves `others` out, as the paper's does. "
    "Cases: everything, and each input alone."
)


class MultimodalRecipe(MeasuringRecipe[MultimodalConfig]):
    """Trains on segments; a song's answer is the sum of its segments' answers, weighted by their seconds."""

    name: ClassVar[str] = "multimodal"
    family: ClassVar[str] = "multimodal"
    config_type: ClassVar[type[TrainConfig]] = MultimodalConfig
    songs: Songs  # variants share them, and the codebook
    timbral: TimbralHistogram | None

    @property
    def measured_on(self) -> Path | None:
        """Cached features have no audio to answer as a server would."""
        return None if self.config.features else self.config.catalogue

    def prepare(self, progress: Progress) -> None:
        config = self.config
        if not hasattr(self, "songs"):
            self.songs, self.timbral = listened(config, progress)
        songs = self.songs
        widths = {name: part.shape[1] for name, part in songs.parts.items() if name in config.inputs}
        self.sizes = {name: widths.get(name, 0) for name in get_args(Modality)}
        if not any(self.sizes.values()):
            raise CorpusError(f"no song has any of the inputs {', '.join(config.inputs)}")
        for name in config.inputs:
            if not self.sizes[name]:
                progress.say(f"no song has {name}: nothing is learnt from it")
        own = songs.segments("train")
        if not len(own) or not len(songs.segments("valid")):
            raise CorpusError(f"{config.catalogue}: songs that sound are needed in both splits, train and valid")
        x = np.concatenate([songs.parts[name] for name, size in self.sizes.items() if size], axis=1)
        known = np.ma.masked_invalid(x[own])
        self._mean = known.mean(axis=0, dtype=np.float64).filled(0).astype(np.float32)
        spread = known.std(axis=0, dtype=np.float64).filled(0).astype(np.float32)
        self._scale = np.where(spread > 1e-6, spread, np.float32(1))  # a number that never varies stays
        self._x = torch.from_numpy(x)  # (n_segments, d), NaN where missing
        self._taken = np.repeat([NO_AUDIO, NO_AUDIO, NO_CONSUMPTION], list(self.sizes.values()))  # (d,) by which replica
        self._y = torch.from_numpy(songs.labels[songs.owner])
        self._train, self._valid = self.examples("train"), self.examples("valid")
        self.n_examples = len(self._train)
        self.thresholds: dict[str, list[float]] = {}

    def missing_of(self, kind: str) -> FloatArray:
        """Returns (d,), standardised, for missing numbers: for Z zeros of consumption, else the average, which is 0."""
        zeros = (kind == "Z") & (self._taken == NO_CONSUMPTION)
        return np.where(zeros, -self._mean / self._scale, np.float32(0))

    def build(self) -> MultimodalNetwork:
        timbral = self.timbral if self.sizes["timbral"] else None
        codebook = None if timbral is None else self.config.codebook(len(timbral.components))
        network = MultimodalNetwork(self.config.network, self.sizes, len(self.config.labels), codebook)
        network.noise = self.config.noise if self.config.replica.endswith("G") else 0.0
        missing = self.missing_of(self.config.replica[0])
        for name, values in (("mean", self._mean), ("scale", self._scale), ("missing", missing)):
            getattr(network, name).copy_(torch.from_numpy(values))
        if network.timbral is not None and timbral is not None:
            network.timbral.load_state_dict(timbral.state_dict())
        return network

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Returns Adam with the paper's L2 regularisation."""
        return torch.optim.Adam(network.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay)

    def examples(self, split: str) -> Examples:
        """Returns every segment of the split, and its replicas."""
        every = self.songs.segments(split)
        found = [_lacking(every, WHOLE)]
        full = every[~self._x[every, -1].isnan().numpy()] if self.sizes[CONSUMPTION] else every[:0]
        if self.config.replica != "none":
            found.append(_lacking(full, NO_CONSUMPTION))
        if self.config.audio_replica:
            found.append(_lacking(full, NO_AUDIO))
        return np.concatenate(found)

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns the cross-entropy."""
        examples = self._train[batch]
        return cross_entropy(network(self.inputs(examples)), self._truth(examples))

    def inputs(self, examples: Examples) -> Tensor:
        """Returns (n, d) with NaN for what is missing, and for what a replica lacks."""
        lacks = torch.from_numpy(examples[:, 1:] == self._taken)
        return torch.where(lacks, torch.nan, self._x[examples[:, 0]]).to(self.config.torch_device)

    def _truth(self, examples: Examples) -> Tensor:
        return self._y[examples[:, 0]].to(self.config.torch_device)

    def _logits(self, network: nn.Module, examples: Examples) -> Tensor:
        return in_parts(len(examples), SEGMENTS_AT_ONCE, lambda part: network(self.inputs(examples[part])))

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures the loss over all examples of the validation songs, and mAP and thresholds of the songs as they are."""
        loss = cross_entropy(self._logits(network, self._valid), self._truth(self._valid)).item()
        found = {mode: self.answers(network, "valid", lacks) for mode, lacks in self._modes().items()}
        self.thresholds = {mode: tuned_thresholds(*own).tolist() for mode, own in found.items()}
        mode, (labels, probabilities) = next(iter(found.items()))
        measured = means(acceptance(labels, probabilities, np.array(self.thresholds[mode])), self.config.codes)
        right = float((probabilities.argmax(axis=1) == labels).mean())
        return {"loss": loss, "mAP": measured["mAP"], "accuracy": right}

    def _modes(self) -> dict[str, int]:
        """Lists the inputs that a request may give, all of them first, each with what it lacks."""
        if not self.sizes[CONSUMPTION]:
            return {AUDIO: WHOLE}
        return {f"{AUDIO}+{CONSUMPTION}": WHOLE, AUDIO: NO_CONSUMPTION, CONSUMPTION: NO_AUDIO}

    @torch.no_grad()
    def answers(self, network: nn.Module, split: str, lacks: int = WHOLE) -> tuple[IntArray, FloatArray]:
        """Returns labels (n,) of the split's songs and probabilities (n, n_classes): their segments' by duration."""
        songs = self.songs
        own = songs.segments(split)
        by_segment = self._logits(network, _lacking(own, lacks)).softmax(dim=1).cpu().numpy()
        owners, place = np.unique(songs.owner[own], return_inverse=True)
        summed = np.zeros((len(owners), by_segment.shape[1]), np.float32)
        np.add.at(summed, place, by_segment * songs.seconds[own, None])
        return songs.labels[owners], summed / summed.sum(axis=1, keepdims=True)

    def fingerprint(self) -> str:
        """Hashes all features, labels and splits."""
        arrays = (self._x.numpy(), self._y.numpy(), self.songs.seconds, self.songs.splits)
        return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        shares = class_mix(self.songs.labels[self.songs.splits == "train"], self.config.codes)
        return {"thresholds": self.thresholds, "sizes": self.sizes, "class_prior": shares}

    @classmethod
    def figures(cls, models: Sequence[Model], chosen: EvaluationSet, progress: Progress) -> Figures:
        """Measures mAP, precision, recall and F1 in the cases of the release, of rows in which something is sung."""
        model = models[-1]
        manifest = model.manifest
        assert isinstance(manifest, MultimodalManifest)
        codes = [label.code for label in manifest.labels]
        rows = [row for row in chosen.rows(codes) if row.label < len(codes)]
        given = answer(model, read_inputs(model, rows, chosen.extractor(model), progress))
        found = {}
        for mode, by_class in manifest.thresholds.items():
            if own := given.get(case := mode_name(frozenset(mode.split("+")))):
                least = np.array([by_class.get(code, 0.5) for code in codes])
                found[case] = acceptance(own.labels, own.probabilities, least)
        cases = {case: means(one, codes) for case, one in found.items()}
        return Figures(cases, f"{acceptance_table(found, codes)}\n{NOTE}", {"labels": codes, "cases": cases}, rows)

    def export(self, stored: dict[str, Any]) -> Draft:
        """Reads the ears again from where they came from. Raises CheckpointError for a network without vocals."""
        config, facts, ears = self.config, stored["facts"], self.config.ears
        sizes: Mapping[str, int] = facts["sizes"]
        if sizes["vocals"] != ears.config.n_state:
            raise CheckpointError(
                f"a release needs vocals of these ears, {ears.config.n_state} numbers; it has {sizes['vocals']}"
            )
        own = stored_tensors(stored)
        learnt = {"class_prior": facts["class_prior"], "ears": config.start}
        manifest = MultimodalManifest(
            **self.unnamed(config.labels, learnt),
            listen=ears.config,
            segments=config.segments,
            most_windows=config.most_windows,
            timbral=config.codebook(len(own["timbral.components"])) if sizes["timbral"] else None,
            consumption=sizes[CONSUMPTION],
            network=config.network,
            thresholds={mode: dict(zip(config.codes, own, strict=True)) for mode, own in facts["thresholds"].items()},
        )
        learnt_from = ", ".join(name for name in config.inputs if sizes[name])
        replicas = f", replicas {config.replica}" if sizes[CONSUMPTION] else ""
        about = f"A 1-D ResNet of {learnt_from} (Lee & Coviello){replicas}"
        return Draft(manifest, stored_ears(ears) | own, about, calibrated=True, measure=self.figures)


def _lacking(segments: IntArray, what: int) -> Examples:
    return np.stack([segments, np.full_like(segments, what)], axis=1)
