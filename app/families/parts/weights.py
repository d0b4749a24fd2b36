"""Stored tensors → a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.errors import ReleaseError

COUNTER = "num_batches"  # of a batch norm: of no use after training, not stored


def load_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give the network the stored tensors (fp16 or fp32), as fp32. Raises ReleaseError on wrong names, shapes or values."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ReleaseError(f"weights.safetensors: tensor '{name}' holds NaN or infinite values")
    expected = {name: tensor.shape for name, tensor in network.state_dict().items() if COUNTER not in name}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise ReleaseError(
            f"weights.safetensors: {len(wrong)} tensors do not fit the manifest; '{name}' should be "
            f"{expected.get(name)} and is {found.get(name)}"
        )
    state = {name: tensor.float() for name, tensor in weights.items()}
    counters = [name for name in network.state_dict() if COUNTER in name]
    network.load_state_dict(state | {name: torch.tensor(0) for name in counters}, assign=True)
