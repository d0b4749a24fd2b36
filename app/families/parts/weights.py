"""Stored tensors → a network → arrays of numpy."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from app.domain import FloatArray
from app.errors import ReleaseError

COUNTER = "num_batches"  # of a batch norm: of no use after training, not stored


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], prefix: str = "") -> None:
    """Give the network the stored tensors, as fp32. Raises ReleaseError naming the first with a wrong name, shape or value.

    `prefix`: what the stored names have before the network's.
    """
    state = {name: tensor.float() for name, tensor in weights.items()}
    for name, tensor in state.items():
        if not torch.isfinite(tensor.sum()):  # ten times as fast as to look at each value
            raise ReleaseError(f"weights.safetensors: tensor '{prefix}{name}' holds NaN or infinite values")
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if COUNTER not in name}
    stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wrong := sorted(dict(own.items() ^ stored.items())):
        name = wrong[0]
        raise ReleaseError(
            f"weights.safetensors: {len(wrong)} tensors do not fit the manifest; "
            f"'{prefix}{name}' should be {own.get(name, 'absent')} and is {stored.get(name, 'absent')}"
        )
    network.load_state_dict(state, assign=True)  # sets the counters to 0


def dense(linear: nn.Module) -> tuple[FloatArray, FloatArray]:
    """Weight (n_in, n_out) and bias (n_out,) of a linear layer."""
    assert isinstance(linear, nn.Linear)
    return np.ascontiguousarray(linear.weight.detach().T.numpy()), linear.bias.detach().numpy()
