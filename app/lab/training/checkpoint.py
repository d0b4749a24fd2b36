"""Checkpoints: tensors and plain numbers, written whole or not at all, read back without unpickling code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from app.lab.training.errors import CheckpointError


def save(path: Path, state: dict[str, Any]) -> None:
    """Atomic: a killed run or a full disk leaves the previous checkpoint in place. Raises CheckpointError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    try:
        torch.save(state, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path} could not be written ({error}); free some disk and continue with --resume") from error


def load(path: Path) -> dict[str, Any]:
    """Raises CheckpointError if the file is missing, damaged, or holds more than tensors and plain values."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; start without --resume") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it and start again") from error
    if not isinstance(state, dict) or "network" not in state or "variant" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of `lrid train`")
    return state
