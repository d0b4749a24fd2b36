"""Artist and language from one network (Singh & Biswas), or either alone as their baseline. Read `loss` first.

A batch is numbers of segments. Every segment of every song is heard once per epoch, in another order each time.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.families.contract import Label
from app.families.multitask.manifest import BlockConfig, MultitaskManifest, SegmentConfig, TaskName
from app.families.multitask.network import LogMel, MultitaskNetwork
from app.families.parts.weights import COUNTER
from app.lab.corpus.catalogue import read_catalogue
from app.lab.corpus.check import check_rows
from app.lab.errors import CheckpointError, CorpusError
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.evaluate import Options
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Recipe
from app.lab.training.recipes.multitask_data import IntArray, Songs, artists_among, languages_among, songs_of
from app.lab.training.recipes.multitask_table import measure_release, write_table

SEGMENTS_AT_ONCE = 64


class MultitaskConfig(TrainConfig):
    """Defaults are the paper's where it states them (§3.2)."""

    labels: tuple[Label, ...] = ()  # languages; (): all in split train
    tasks: Literal["both", "artist", "language"] = "both"  # one alone is the paper's baseline
    alpha: float | None = Field(None, ge=0)  # of the language's loss beside the artist's; None: N_artist / N_lang
    listen: SegmentConfig = Field(default_factory=SegmentConfig)
    blocks: BlockConfig = Field(default_factory=BlockConfig)

    @property
    def task_names(self) -> tuple[TaskName, ...]:
        return get_args(TaskName) if self.tasks == "both" else (self.tasks,)


class MultitaskRecipe(Recipe[MultitaskConfig, IntArray]):
    """Five shared blocks, an output layer for each task."""

    name: ClassVar[str] = "multitask"
    family: ClassVar[str] = "multitask"
    config_type: ClassVar[type[TrainConfig]] = MultitaskConfig

    def prepare(self, progress: Progress) -> None:
        config = self.config
        rows = [row for row in read_catalogue(config.catalogue, None) if row.path is not None]
        for finding in check_rows(rows, ["", ""]):
            if finding.kind == "track_in_two_splits":
                raise CorpusError(str(finding))
        train, valid = ([row for row in rows if row.split == split] for split in ("train", "valid"))
        if not train or not valid:
            raise CorpusError(f"{config.catalogue}: songs with audio are needed in the splits train and valid")
        classes = {"language": config.labels or languages_among(train)} if "language" in config.task_names else {}
        classes |= {"artist": artists_among(train)} if "artist" in config.task_names else {}
        self.labels: dict[TaskName, tuple[Label, ...]] = {task: classes[task] for task in config.task_names}
        cut = (self.labels, config.listen, config.cache_folder, progress)
        self.songs, self.valid = songs_of(train, *cut), songs_of(valid, *cut)
        self.n_examples = len(self.songs.places)
        self._log_mel = LogMel(config.listen).to(config.torch_device)

    @property
    def alpha(self) -> float:
        """The weight of L_lang in L = L_artist + alpha L_lang (§3.2.4)."""
        given = self.config.alpha
        return len(self.labels["artist"]) / len(self.labels["language"]) if given is None else given

    @property
    def sizes(self) -> dict[str, int]:
        return {task: len(labels) for task, labels in self.labels.items()}

    def build(self) -> MultitaskNetwork:
        return MultitaskNetwork(self.config.listen, self.config.blocks.channels, self.sizes)

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """L_artist + alpha L_lang, or the loss of the only task."""
        return self._joined(self._losses(self._logits(network, self.songs, batch), self.songs, batch))

    def _joined(self, losses: dict[TaskName, Tensor]) -> Tensor:
        if len(losses) == 1:
            return next(iter(losses.values()))
        return losses["artist"] + self.alpha * losses["language"]

    def _logits(self, network: nn.Module, songs: Songs, numbers: IntArray) -> Tensor:
        samples = torch.from_numpy(songs.samples(numbers)).to(self.config.torch_device)
        return network(self._log_mel(samples))  # type: ignore[no-any-return]

    def _losses(self, logits: Tensor, songs: Songs, numbers: IntArray) -> dict[TaskName, Tensor]:
        by_task = self._by_task(logits).items()
        return {task: cross_entropy(own, self._truth(songs, numbers, task)) for task, own in by_task}

    def _by_task(self, logits: Tensor) -> dict[TaskName, Tensor]:
        return dict(zip(self.labels, torch.split(logits, list(self.sizes.values()), dim=1), strict=True))

    def _truth(self, songs: Songs, numbers: IntArray, task: TaskName) -> Tensor:
        return torch.from_numpy(songs.labels(numbers, task)).to(self.config.torch_device)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Loss, and accuracy of each task, over all segments."""
        numbers = np.arange(len(self.valid.places))
        parts = np.array_split(numbers, -(-len(numbers) // SEGMENTS_AT_ONCE))
        logits = torch.cat([self._logits(network, self.valid, part) for part in parts])
        scores = {"loss": self._joined(self._losses(logits, self.valid, numbers)).item()}
        for task, own in self._by_task(logits).items():
            right = own.argmax(dim=1) == self._truth(self.valid, numbers, task)
            scores[f"accuracy_{task}"] = right.float().mean().item()
        return scores

    def fingerprint(self) -> str:
        return self.songs.waveforms.fingerprint(self.songs.rows) + self.valid.waveforms.fingerprint(self.valid.rows)

    def facts(self) -> dict[str, Any]:
        """Plain values: labels as JSON, counts, and the class mix of the segments."""
        main = self.config.task_names[0]
        mix = np.bincount(self.songs.labels(np.arange(len(self.songs.places)), main), minlength=self.sizes[main])
        prior = dict(zip((x.code for x in self.labels[main]), (mix / mix.sum()).round(5).tolist(), strict=True))
        return {
            "labels": json.dumps({task: [label.model_dump() for label in own] for task, own in self.labels.items()}),
            "rows": {"audio": len(self.songs.rows)},
            "segments": len(self.songs.places),
            "class_prior": prior,
            "alpha": self.alpha if len(self.labels) == 2 else None,
        }

    def export(self, stored: dict[str, Any]) -> Draft:
        """All in fp32: under a megabyte."""
        if broken := [name for name, tensor in stored["network"].items() if not torch.isfinite(tensor).all()]:
            raise CheckpointError(f"the checkpoint's tensor {broken[0]!r} holds NaN or infinite values: train again")
        facts = dict(stored["facts"])
        labels = {task: [Label(**one) for one in own] for task, own in json.loads(facts.pop("labels")).items()}
        main, *others = labels
        manifest = MultitaskManifest(
            family="multitask",
            release="draft",
            created=date.today(),
            labels=labels[main],
            sha256="0" * 64,
            training={"tasks": list(labels), **facts},
            metrics={},
            asks=main,
            artists=labels[others[0]] if others else [],
            listen=self.config.listen,
            blocks=self.config.blocks,
        )
        tensors = {name: t.float().contiguous() for name, t in stored["network"].items() if COUNTER not in name}
        about = f"Multitask network (Singh & Biswas 2021), learnt: {' and '.join(labels)}"
        return Draft(manifest, tensors, about, calibrated=True, measure=measure_release)

    @classmethod
    def evaluate(cls, folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
        """The paper's table 1, with the baselines that lie beside the release."""
        return write_table(folder, chosen, output, options, progress)
