"""Train the n-gram reader: metadata → posterior over the classes. Read `train` first, top to bottom.

A network is a table of n-gram vectors and two dense layers. Networks that differ in their seed alone stand side by side;
the answer is the softmax of their mean logits. Eight epochs take about 45 s per network on one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, embedding_bag

from app.families.parts.ngrams.config import NgramConfig
from app.lab.errors import TrainingError
from app.lab.training.recipes.reader_rows import (
    AugmentConfig,
    FieldTable,
    Float64,
    Indices,
    RowSampler,
    Weights,
)


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """One training. Together with the rows it decides the result."""

    read: NgramConfig  # with the class mix of the answers
    codes: tuple[str, ...]
    batch_mix: Mapping[str, float]  # class mix of the batches
    latin_shares: Mapping[str, float] = field(default_factory=dict)  # what is left of a class's share in Latin letters
    weights: Weights
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    epochs: int = 8
    rows_per_epoch: int = 40_960  # drawn with replacement
    batch_size: int = 512
    learning_rate: float = 3e-3  # of the dense layers; AdamW, warm-up, then cosine to zero
    table_learning_rate: float = 5e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01  # of the dense layers
    unit_dropout: float = 0.2
    seed: int = 1

    @property
    def steps(self) -> int:
        return self.epochs * max(1, self.rows_per_epoch // self.batch_size)  # 640


class ReaderNet(nn.Module):
    """One network."""

    def __init__(self, read: NgramConfig, n_classes: int, unit_dropout: float) -> None:
        super().__init__()
        self.table = nn.Parameter(0.05 * torch.randn(read.n_buckets, read.embedding_size))
        widths = [read.n_inputs, *read.hidden_units]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.last = nn.Linear(widths[-1], n_classes)
        self.unit_dropout = unit_dropout

    def forward(self, buckets: Tensor, offsets: Tensor, weights: Tensor, counted: Tensor) -> Tensor:
        """N-grams of 3 n fields (k,), where each begins (3 n,), their weights (k,); (n, n_counted) → logits (n, classes)."""
        sums = embedding_bag(buckets, self.table, offsets, mode="sum", per_sample_weights=weights)  # (3 n, size)
        x = torch.cat([sums.view(len(counted), -1), counted], dim=1)  # (n, n_inputs)
        for layer in self.layers:
            x = dropout(layer(x), self.unit_dropout, self.training)  # (n, hidden)
        return self.last(x)  # type: ignore[no-any-return]


def batch_of(table: FieldTable, places: Indices, rng: np.random.Generator | None = None, drop: float = 0.0) -> list[Tensor]:
    """(n, 3) texts → the network's inputs; with `rng`, a share `drop` of the n-grams is left out."""
    buckets, offsets, weights = table.ngrams(places)
    if rng is not None and drop:
        weights = weights * (rng.random(len(weights), np.float32) >= drop) / np.float32(1.0 - drop)
    return [torch.from_numpy(part) for part in (buckets, offsets, weights, table.counted(places))]


def train(
    config: ReaderConfig, sampler: RowSampler, report: Callable[[int, float], None] = lambda step, loss: None
) -> ReaderNet:
    """One network of `config.seed`, with the class mix of the batches in its answers. Raises TrainingError."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network = ReaderNet(config.read, len(config.codes), config.unit_dropout)
    dense = [parameter for name, parameter in network.named_parameters() if name != "table"]
    optimizer = torch.optim.AdamW(
        [
            {"params": [network.table], "full_rate": config.table_learning_rate, "weight_decay": 0.0},
            {"params": dense, "full_rate": config.learning_rate, "weight_decay": config.weight_decay},
        ],
        lr=0.0,
        fused=True,
    )
    surplus = -np.log([config.latin_shares.get(code, 1.0) for code in config.codes])  # logit adjustment (Menon et al. 2021)
    for step in range(config.steps):
        rows = sampler.draw(config.batch_size, rng)
        places = sampler.augmented(rows, rng)
        latin = sampler.table.all_latin(places)[:, None] * surplus  # (n, classes)
        logits = network(*batch_of(sampler.table, places, rng, config.augment.drop_ngram))
        loss = cross_entropy(logits + torch.from_numpy(latin.astype(np.float32)), torch.from_numpy(sampler.labels[rows]))
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} in step {step}; train with a learning rate under {config.learning_rate:g}"
            )
        for group in optimizer.param_groups:
            warm, cosine = min(1.0, (step + 1) / config.warmup_steps), 0.5 * (1 + math.cos(math.pi * step / config.steps))
            group["lr"] = group["full_rate"] * warm * cosine
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        report(step, float(loss.item()))
    return network.eval()


@torch.no_grad()
def predict(networks: Sequence[ReaderNet], table: FieldTable, places: Indices) -> Float64:
    """(n, 3) texts → mean logits (n, classes)."""
    places = np.where(table.informative(places)[:, None], places, 0)
    parts = []
    for start in range(0, len(places), 1024):
        batch = batch_of(table, places[start : start + 1024])
        parts.append(torch.stack([network(*batch) for network in networks]).mean(dim=0).numpy())
    return np.concatenate(parts).astype(np.float64)
