"""Trains the reader of names, by n-grams. Read `loss` first.

A network is a table of n-gram vectors and a few dense layers. Networks that differ in their first weights and in the rows
they draw are trained side by side; the answer is the softmax of their mean logits. The shipped reader: three networks,
8 epochs of 80 batches of 512 rows each, about 45 s per network on one core.
"""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, embedding_bag
from torch.nn.utils.fusion import fuse_linear_bn_eval

from app.families.contract import Label
from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.fields import FieldReader
from app.families.parts.ngrams.reader import packed
from app.families.parts.profiles import langdetect_languages
from app.lab.errors import CheckpointError, CorpusError
from app.lab.labels import WORLD_LABELS
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.loop import Recipe
from app.lab.training.recipe import Draft, IntArray
from app.lab.training.recipes.reader_mixes import LATIN_SHARES, answer_mix, batch_mix
from app.lab.training.recipes.reader_rows import (
    AugmentConfig,
    FieldTable,
    Indices,
    RowSampler,
    draw_probabilities,
    numbered,
    read_phrases,
    read_rows,
)
from app.lab.training.recipes.reader_words import read_made

VALIDATED_AT_ONCE = 1024  # rows


class ReaderConfig(TrainConfig):
    """Defaults are those of the reader that ships."""

    labels: tuple[Label, ...] = WORLD_LABELS
    splits: tuple[Literal["train", "valid"], ...] = ("train",)  # to learn from; those of `valid` are always validated on
    phrases: bool = True  # learn `phrases.json` too
    made_share: float = Field(0.05, ge=0, lt=1)  # of a class in the batches, for titles of its words; 0: none is made
    class_mix: dict[str, float] | None = None  # of the answers; None: see `reader_mixes`
    augment: AugmentConfig = AugmentConfig()

    networks: int = Field(3, ge=1)
    buckets_log2: int = Field(17, ge=4, le=22)
    embedding_size: int = Field(32, ge=1)
    hidden_units: tuple[int, ...] = (384, 256)
    unit_dropout: float = Field(0.2, ge=0, lt=1)
    temperature: float = Field(1.2, gt=0)  # of the answers; by cross-validation

    epochs: int = Field(8, ge=1)
    patience_epochs: int = Field(8, ge=1)
    steps_per_epoch: int = Field(80, ge=1)
    batch_size: int = Field(512, ge=2)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: int = Field(50, ge=0)
    learning_rate: float = Field(3e-3, gt=0)  # of the dense layers; AdamW
    table_learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)  # of the dense layers
    seed: int = Field(1, ge=0)

    @property
    def read(self) -> NgramConfig:
        return NgramConfig(
            buckets_log2=self.buckets_log2,
            embedding_size=self.embedding_size,
            networks=self.networks,
            hidden_units=list(self.hidden_units),
            class_mix=self.class_mix or answer_mix(self.codes),
            languages=list(langdetect_languages()),
        )


class ReaderNet(nn.Module):
    """Adds a table of n-gram vectors to counted inputs, and classifies by dense layers."""

    def __init__(self, read: NgramConfig, unit_dropout: float) -> None:
        super().__init__()
        self.table = nn.Parameter(0.05 * torch.randn(read.n_buckets, read.embedding_size))
        widths = [read.n_inputs, *read.hidden_units]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.last = nn.Linear(widths[-1], len(read.class_mix))
        self.unit_dropout = unit_dropout

    def forward(self, buckets: Tensor, offsets: Tensor, weights: Tensor, counted: Tensor) -> Tensor:
        """N-grams of 3 n fields (k,), where each begins (3 n,), their weights (k,); (n, n_counted) → (n, n_classes)."""
        sums = embedding_bag(buckets, self.table, offsets, mode="sum", per_sample_weights=weights)  # (3 n, size)
        x = torch.cat([sums.view(len(counted), -1), counted], dim=1)  # (n, n_inputs)
        for layer in self.layers:
            x = dropout(layer(x), self.unit_dropout, self.training)  # (n, hidden)
        return self.last(x)  # type: ignore[no-any-return]


class ReaderRecipe(Recipe[ReaderConfig]):
    """Trains the part of a release that reads. Batches say nothing: each network draws rows of its own."""

    name: ClassVar[str] = "reader"
    family: ClassVar[str] = "lrid_voice"
    config_type: ClassVar[type[TrainConfig]] = ReaderConfig
    sampler: RowSampler
    valid: FieldTable
    mix: dict[str, float]  # of the batches

    def prepare(self, progress: Progress) -> None:
        config = self.config
        rows = read_rows(config.catalogue, config.codes)
        own = [row for row in rows if row.split in config.splits]
        held_out = [row.metadata.title or "" for row in rows if row.split not in config.splits]
        own += read_phrases(config.codes, held_out) if config.phrases else []
        if not own:
            raise CorpusError(f"{config.catalogue}: no row has the split {' or '.join(config.splits)}")
        self.mix = batch_mix(config.codes, [row.label for row in own], config.read.class_mix)
        own += read_made(config.codes, held_out) if config.made_share else []
        self.n_examples = len(own)
        progress.say(f"{len(own)} rows to learn from; taking them apart takes half a minute per 100,000")
        probabilities = draw_probabilities(own, self.mix, config.made_share)
        reader = FieldReader(config.read)
        self.sampler = RowSampler(own, reader, probabilities, config.augment)
        scored = [row for row in rows if row.split == "valid" and row.strength != "script"]
        numbers = {"": 0}
        self._valid_places = numbered(scored, numbers)
        self.valid = FieldTable.of(reader, list(numbers))
        self._valid_labels = np.array([row.label for row in scored], np.int64)
        self._surplus = -np.log([LATIN_SHARES.get(code, 1.0) for code in config.codes])

    def build(self) -> nn.ModuleList:
        """Returns the networks that stand side by side."""
        return nn.ModuleList(ReaderNet(self.config.read, self.config.unit_dropout) for _ in range(self.config.networks))

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        config = self.config
        tables = [p for name, p in network.named_parameters() if name.endswith("table")]
        dense = [p for name, p in network.named_parameters() if not name.endswith("table")]
        return torch.optim.AdamW(
            [
                {"params": tables, "lr": config.table_learning_rate, "weight_decay": 0.0},
                {"params": dense, "lr": config.learning_rate, "weight_decay": config.weight_decay},
            ],
            fused=True,
        )

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Sums the networks' cross-entropies, each on rows of its own.

        Logits get a surplus where all letters are Latin, so that the network's own are those of a mix in which little of
        such a class's share is left there (logit adjustment, Menon et al. 2021).
        """
        config, table = self.config, self.sampler.table
        losses = []
        for one in network.children():
            rows = self.sampler.draw(config.batch_size, rng)
            places = self.sampler.augmented(rows, rng)  # (n, 3)
            surplus = (table.all_latin(places)[:, None] * self._surplus).astype(np.float32)  # (n, classes)
            logits = one(*self._inputs(table, places, rng))  # (n, classes)
            losses.append(cross_entropy(logits + self.tensor(surplus), self.tensor(self.sampler.labels[rows])))
        return torch.stack(losses).sum()

    def _inputs(self, table: FieldTable, places: Indices, rng: np.random.Generator | None = None) -> list[Tensor]:
        """Turns (n, 3) texts into the network's inputs; with `rng`, a share of the n-grams is left out."""
        buckets, offsets, weights = table.ngrams(places)
        if rng is not None and (drop := self.config.augment.drop_ngram):
            weights = weights * (rng.random(len(weights), np.float32) >= drop) / np.float32(1.0 - drop)
        return [self.tensor(part) for part in (buckets, offsets, weights, table.counted(places))]

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures the validation rows that are not labelled by their script, under the answers' class mix."""
        if not len(self._valid_labels):
            return {"loss": 0.0}
        logits, labels = self.logits(network) + self.tilt(self.mix), torch.from_numpy(self._valid_labels)
        right = (logits.argmax(dim=1) == labels).float().mean()
        return {"loss": cross_entropy(logits, labels).item(), "accuracy": right.item()}

    @torch.no_grad()
    def logits(self, network: nn.Module) -> Tensor:
        """Returns the networks' mean for the validation rows, (n, n_classes), on the CPU."""
        places = np.where(self.valid.informative(self._valid_places)[:, None], self._valid_places, 0)
        starts = range(0, len(places), VALIDATED_AT_ONCE)
        batches = [self._inputs(self.valid, places[i : i + VALIDATED_AT_ONCE]) for i in starts]
        return torch.cat([torch.stack([one(*batch) for one in network.children()]).mean(dim=0) for batch in batches]).cpu()

    def tilt(self, trained: dict[str, float]) -> Tensor:
        """Returns (n_classes,) to add to logits: from the class mix of the batches to that of the answers."""
        wanted = self.config.read.class_mix
        return torch.tensor([wanted[code] / max(trained[code], 1e-6) for code in self.config.codes]).log()

    def fingerprint(self) -> str:
        return hashlib.sha256(Path(self.config.catalogue).read_bytes()).hexdigest()

    def facts(self) -> dict[str, Any]:
        return {"rows": len(self.sampler.labels), "class_mix_of_batches": self.mix}

    @torch.no_grad()
    def part(self, stored: dict[str, Any]) -> tuple[NgramConfig, dict[str, Tensor]]:
        """Makes of a checkpoint what `NgramReader` takes. Needs no `prepare`.

        Tables are packed in eight bits, dense layers in fp16; BatchNorm is folded in, and the tilt into the last bias.
        """
        networks, temperature = self.build(), self.config.temperature
        networks.load_state_dict(stored["network"])
        nets = [network for network in networks.eval() if isinstance(network, ReaderNet)]
        found = packed(torch.cat([net.table for net in nets], dim=1))
        layers = [[fuse_linear_bn_eval(*layer[:2]) for layer in net.layers] for net in nets]  # type: ignore[index]
        for i, linears in enumerate(zip(*layers, strict=True)):
            found[f"layer{i}.weight"] = torch.stack([linear.weight.T for linear in linears]).half()
            found[f"layer{i}.bias"] = torch.stack([linear.bias for linear in linears])
        last, tilt = len(layers[0]), self.tilt(stored["facts"]["class_mix_of_batches"])
        found[f"layer{last}.weight"] = torch.stack([net.last.weight.T / temperature for net in nets]).half()
        found[f"layer{last}.bias"] = torch.stack([net.last.bias / temperature + tilt for net in nets])
        return self.config.read, {name: tensor.contiguous() for name, tensor in found.items()}

    def export(self, stored: dict[str, Any]) -> Draft:
        raise CheckpointError("a reader is a part of a release: give its checkpoint to the training of an `lrid_voice`")
