"""Several text networks in one: side by side in each layer, blind to each other, and the mean of their logits.

The mean of a few networks that differ in their seed alone errs less than any of them. As one network of greater width
it needs no code of its own in serving.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from app.families.parts.ngrams.config import N_FIELDS
from app.lab.training.plus_data import Float64
from app.lab.training.train_plus import PlusConfig, TextNet


def merged(networks: Sequence[TextNet], config: PlusConfig) -> tuple[TextNet, PlusConfig]:
    """Networks of `config` → the one network, and the settings with its sizes."""
    k = len(networks)
    sizes = {name: k * getattr(config.network, name) for name in ("text_units", "identify_units")}
    wide = replace(
        config,
        network=config.network.model_copy(update=sizes),
        read=config.read.model_copy(update={"embedding_size": k * config.read.embedding_size}),
    )
    states = [network.state_dict() for network in networks]
    whole = TextNet(wide)
    whole.load_state_dict({name: _together(name, [s[name] for s in states], config) for name in states[0]})
    return whole.eval(), wide


def tilted(network: TextNet, mix: Float64, wanted: Float64, temperature: float) -> TextNet:
    """The same network, at `temperature`, with another class mix in its answers: (n_classes,) as trained → as wanted."""
    found = copy.deepcopy(network)
    with torch.no_grad():
        found.h[1].bias += torch.from_numpy((temperature * np.log(wanted / mix)).astype(np.float32))  # type: ignore[operator]
    return found


def _together(name: str, tensors: list[Tensor], config: PlusConfig) -> Tensor:
    if name == "g.0.0.weight":
        return torch.cat([_spread(tensor, i, len(tensors), config) for i, tensor in enumerate(tensors)])
    if name == "h.0.0.weight":  # before the text's part are zeros, for an audio yet to come
        n_audio = tensors[0].shape[1] - config.network.text_units
        text = _diagonal([tensor[:, n_audio:] for tensor in tensors])
        return torch.cat([text.new_zeros(len(text), n_audio), text], dim=1)
    if name == "h.1.bias":
        return torch.stack(tensors).mean(dim=0)
    if name in {"table", "h.1.weight"}:
        return torch.cat(tensors, dim=1) / (len(tensors) if name == "h.1.weight" else 1)
    if tensors[0].dim() == 2:
        return _diagonal(tensors)
    return torch.cat(tensors) if tensors[0].dim() else tensors[0]


def _diagonal(tensors: list[Tensor]) -> Tensor:
    return torch.block_diag(*tensors)  # type: ignore[no-untyped-call, no-any-return]


def _spread(weight: Tensor, i: int, k: int, config: PlusConfig) -> Tensor:
    """Network `i` of `k`: its columns go where its part of each field's sum is; what is counted is everybody's."""
    size = config.read.embedding_size
    sums, counted = weight[:, : N_FIELDS * size].view(-1, N_FIELDS, size), weight[:, N_FIELDS * size :]
    wide = weight.new_zeros(len(weight), N_FIELDS, k * size)
    wide[:, :, i * size : (i + 1) * size] = sums
    return torch.cat([wide.flatten(1), counted], dim=1)
