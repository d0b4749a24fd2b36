"""Stored tensors → a network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from app.errors import ReleaseError

COUNTER = "num_batches"  # of a batch norm: of no use after training, not stored


def load_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give the network the stored tensors (fp16 or fp32), as fp32. Raises ReleaseError on wrong names, shapes or values."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ReleaseError(f"weights.safetensors: tensor '{name}' holds NaN or infinite values")
    check_shapes({name: tensor for name, tensor in network.state_dict().items() if COUNTER not in name}, weights)
    state = {name: tensor.float() for name, tensor in weights.items()}
    counters = [name for name in network.state_dict() if COUNTER in name]
    network.load_state_dict(state | {name: torch.tensor(0) for name in counters}, assign=True)


def check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises ReleaseError naming the first tensor that is missing, unknown or misshapen."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (expected, found)]
    if wrong := sorted(dict(shapes[0].items() ^ shapes[1].items())):
        name = wrong[0]
        should, has = (of.get(name, "absent") for of in shapes)
        raise ReleaseError(
            f"weights.safetensors: {len(wrong)} tensors do not fit the manifest; '{name}' should be {should} and is {has}"
        )
