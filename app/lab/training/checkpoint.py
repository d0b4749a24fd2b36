"""Writes checkpoints of tensors and plain values, whole or not at all, and reads them without unpickling code."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.lab.errors import CheckpointError
from app.lab.training.config import MAY_CHANGE, TrainConfig


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes atomically: a killed run or a full disk leaves the previous checkpoint in place. Raises CheckpointError."""
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path} could not be written ({error}); free some disk and continue with --resume") from error


def load(path: Path, recipe: str | None = None) -> dict[str, Any]:
    """Raises CheckpointError unless the file is a whole checkpoint, of this recipe if one is named."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; check its path, or train without --resume") from error
    except Exception as error:  # torch.load raises what its readers raise
        reason = f" ({error.strerror})" if isinstance(error, OSError) else ""  # torch's own advice is to unpickle code
        raise CheckpointError(f"{path} is damaged or no checkpoint{reason}; name another one, or start again") from error
    if not isinstance(state, dict) or not {"recipe", "network", "config"} <= state.keys():
        raise CheckpointError(f"{path} is no checkpoint of `lrid train`; name a best.pt or last.pt")
    if broken := [name for name, tensor in state["network"].items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(f"{path}: tensor {broken[0]!r} holds NaN or infinite values; name another, or train again")
    if recipe is not None and state["recipe"] != recipe:
        raise CheckpointError(f"{path} is of recipe {state['recipe']!r}, expected {recipe!r}; name another checkpoint")
    return state


def load_weights(path: Path, stored: dict[str, Any], network: nn.Module) -> None:
    """Gives the network a checkpoint's weights. Raises CheckpointError naming the tensor that does not fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in stored["network"].items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise CheckpointError(
            f"{path}: {len(wrong)} tensors do not fit this network; {wrong[0]!r} should be {expected.get(wrong[0])} and is "
            f"{found.get(wrong[0])}; name a checkpoint of such a network, or give the settings it was trained with"
        )
    network.load_state_dict(stored["network"])


def check_settings(path: Path, stored: dict[str, Any], config: TrainConfig) -> None:
    """Raises CheckpointError if going on with `config` could not give the result of the training that was begun."""
    may_change = MAY_CHANGE if config.schedule == "cosine" else MAY_CHANGE | {"epochs"}
    theirs, ours = json.loads(stored["config"]), json.loads(config.model_dump_json())
    for name in sorted(ours.keys() - may_change):
        if theirs.get(name) != ours[name]:
            raise CheckpointError(
                f"{path}: it was trained with {name} = {theirs.get(name)}, not {ours[name]}; give the same to --resume, or "
                f"begin another training with init_from={path} and another --output"
            )
