"""Convolutions in eight bits on disk: f is most of a release, and does not need sixteen."""

from __future__ import annotations

import torch
from torch import Tensor

from app.errors import ReleaseError

SCALE = ".scale"  # after the name of a tensor in eight bits: its unit, for each output channel


def packed(name: str, weight: Tensor) -> dict[str, Tensor]:
    """(n_out, ...) → the same in steps of a 127th of each output channel's largest value, int8, and the steps (n_out,)."""
    largest = weight.float().flatten(1).abs().amax(dim=1)
    step = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    return {name: torch.round(weight.float() / _along(step, weight)).to(torch.int8), name + SCALE: step}


def unpacked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored tensors → floats. Raises ReleaseError where the steps of a packed one are missing or do not fit."""
    found = {}
    for name, tensor in weights.items():
        if tensor.dtype == torch.int8:
            step = weights.get(name + SCALE)
            if step is None or step.shape != tensor.shape[:1]:
                raise ReleaseError(f"weights.safetensors: '{name}' needs '{name + SCALE}' of {tuple(tensor.shape[:1])}")
            found[name] = tensor.float() * _along(step, tensor)
        elif not (name.endswith(SCALE) and name.removesuffix(SCALE) in weights):
            found[name] = tensor
    return found


def _along(step: Tensor, weight: Tensor) -> Tensor:
    return step.view(-1, *[1] * (weight.dim() - 1))
