"""Defines the reader's networks as they are trained, and packs them as `NgramReader` takes them."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding_bag
from torch.nn.utils.fusion import fuse_linear_bn_eval

from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.reader import packed
from app.lab.training.recipes.reader_rows import FieldTable, Indices


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


class ReaderNets(nn.Sequential):
    """Holds networks side by side."""

    def __init__(self, networks: Iterable[ReaderNet]) -> None:
        super().__init__(*networks)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Returns the mean of their logits, (n, n_classes)."""
        return torch.stack([network(*inputs) for network in self]).mean(dim=0)


def inputs_of(table: FieldTable, places: Indices, rng: np.random.Generator | None = None, drop: float = 0.0) -> list[Tensor]:
    """Turns (n, 3) texts into the network's inputs; with `rng`, a share `drop` of the n-grams is left out."""
    buckets, offsets, weights = table.ngrams(places)
    if rng is not None and drop:
        weights = weights * (rng.random(len(weights), np.float32) >= drop) / np.float32(1.0 - drop)
    return [torch.from_numpy(part) for part in (buckets, offsets, weights, table.counted(places))]


@torch.no_grad()
def tensors_of(networks: Sequence[nn.Module], tilt: Tensor, temperature: float) -> dict[str, Tensor]:
    """Packs the table in eight bits, dense layers in fp16; folds BatchNorm in, `tilt` (n_classes,) into the last bias."""
    nets = [network for network in networks if isinstance(network, ReaderNet)]
    found = packed(torch.cat([network.table for network in nets], dim=1))
    n_hidden = len(nets[0].layers)
    for i in range(n_hidden):
        folded = [fuse_linear_bn_eval(network.layers[i][0], network.layers[i][1]) for network in nets]  # type: ignore[index]
        found[f"layer{i}.weight"] = torch.stack([linear.weight.T for linear in folded]).half()
        found[f"layer{i}.bias"] = torch.stack([linear.bias for linear in folded])
    found[f"layer{n_hidden}.weight"] = torch.stack([network.last.weight.T / temperature for network in nets]).half()
    found[f"layer{n_hidden}.bias"] = torch.stack([network.last.bias / temperature + tilt for network in nets])
    return {name: tensor.contiguous() for name, tensor in found.items()}
