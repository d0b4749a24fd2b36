"""Trained networks → the reader's config and tensors, with the class mix and the temperature of its answers folded in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.reader import packed
from app.lab.training.recipes.reader import ReaderConfig, ReaderNet
from app.lab.training.recipes.reader_rows import Float64

LEAST_SHARE = 1e-6  # of a class that is in no batch


def tilt(config: ReaderConfig) -> Float64:
    """(n_classes,) to add to logits: from the class mix of the batches to that of the answers."""
    trained = np.array([max(config.batch_mix[code], LEAST_SHARE) for code in config.codes])
    return np.log([config.read.class_mix[code] for code in config.codes]) - np.log(trained)  # type: ignore[no-any-return]


def temperature_of(logits: Float64, labels: Sequence[int], added: Float64) -> float:
    """The temperature with the best likelihood: logits of rows that were held out, (n, n_classes), and their tilt."""
    grid = np.exp(np.linspace(np.log(0.5), np.log(3.0), 60))

    def loss(temperature: float) -> float:
        z = logits / temperature + added
        z = z - z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]))

    return float(min(grid, key=loss))


@torch.no_grad()
def tensors_of(networks: Sequence[ReaderNet], config: ReaderConfig, temperature: float) -> dict[str, Tensor]:
    """As `NgramReader` takes them: the table in eight bits, dense layers in fp16, BatchNorm folded into them."""
    found = packed(torch.cat([network.table for network in networks], dim=1))
    for i in range(len(config.read.hidden_units)):
        pairs = [_folded(network.layers[i]) for network in networks]  # type: ignore[arg-type]
        found[f"layer{i}.weight"] = torch.stack([weight.T for weight, _ in pairs]).half()
        found[f"layer{i}.bias"] = torch.stack([bias for _, bias in pairs]).half()
    last, added = f"layer{len(config.read.hidden_units)}", torch.from_numpy(tilt(config).astype(np.float32))
    found[f"{last}.weight"] = torch.stack([network.last.weight.T / temperature for network in networks]).half()
    found[f"{last}.bias"] = torch.stack([network.last.bias / temperature + added for network in networks])
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _folded(layer: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Linear followed by BatchNorm (evaluation) as one weight (n_out, n_in) and bias."""
    linear, norm = layer[0], layer[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # (n_out,)
    return linear.weight * scale[:, None], (linear.bias - norm.running_mean) * scale + norm.bias


def config_of(config: ReaderConfig, networks: int) -> NgramConfig:
    return config.read.model_copy(update={"networks": networks})
