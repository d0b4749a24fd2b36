"""Grow a narrow network into a wide one that computes the same (Net2Net, Chen, Goodfellow & Shlens 2016).

Every channel of f is copied, and what it feeds is divided by the number of copies. The wide network starts where the narrow
one, many times cheaper to train, has arrived. A little noise on the copies lets further training tell them apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.families.lrid_net.config import NetworkConfig
from app.lab.training import checkpoint
from app.lab.training.errors import TrainingError

FIRST = "f.conv1.weight"  # its input is the spectrogram, which is not copied
FEATURES = ("h.0.0.weight", "weight")  # h, and the training-only audio head, read s_audio
Weights = dict[str, Tensor]


def grow_checkpoint(source: Path, target: Path, *, base_channels: int, noise: float = 0.0, seed: int = 0) -> Path:
    """A checkpoint to start from (`init_from`) or to release. `noise` is relative to each weight of f.

    Raises CheckpointError, and TrainingError if the width is not a multiple.
    """
    stored = checkpoint.load(source)
    small = NetworkConfig(**stored["network_config"])
    factor, rest = divmod(base_channels, small.base_channels)
    if rest or not factor:
        raise TrainingError(f"{base_channels} base channels are not a multiple of the checkpoint's {small.base_channels}")
    network = widen(stored["network"], small, factor)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.items():
        if name.startswith("f.") and tensor.dim() == 4:
            network[name] = tensor * (1 + noise * torch.randn(tensor.shape, generator=generator))
    grown: dict[str, Any] = stored | {
        "network_config": small.model_copy(update={"base_channels": base_channels}).model_dump(),
        "network": network,
        "audio_head": widen(stored["audio_head"], small, factor),
        "history": [*stored["history"], stored["config"]],
        "config": f"grown {factor} times as wide, noise {noise:g}, seed {seed}",
        "optimizer": {},  # its moments belong to the narrow network
    }
    checkpoint.save(target, grown)
    return target


def widen(narrow: Weights, config: NetworkConfig, factor: int) -> Weights:
    """State of a LridNet (or of the audio head) → the same with `factor` times the channels in f; same logits."""
    n_audio = config.n_audio_features
    wide = {}
    for name, tensor in narrow.items():
        if name in FEATURES:
            audio = tensor[:, :n_audio].repeat_interleave(factor, dim=1) / factor
            wide[name] = torch.cat([audio, tensor[:, n_audio:]], dim=1)
        elif name.startswith("f.") and tensor.dim() == 4:
            copied = tensor.repeat_interleave(factor, dim=0)
            wide[name] = copied if name == FIRST else copied.repeat_interleave(factor, dim=1) / factor
        elif name.startswith("f.") and tensor.dim() == 1:
            wide[name] = tensor.repeat_interleave(factor)
        else:
            wide[name] = tensor.clone()
    return wide
