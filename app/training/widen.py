"""Grow a narrow network into a wide one that computes the same (Net2Net, Chen, Goodfellow & Shlens 2016).

Every channel of f is copied `factor` times, and what it feeds is divided by `factor`. The wide network starts where the
narrow one, many times cheaper to train, has arrived.
"""

from __future__ import annotations

import torch
from torch import Tensor

from app.families.lrid_net.config import NetworkConfig
from app.families.lrid_net.network import LridNet

FIRST = "f.conv1.weight"  # its input is the spectrogram, which is not copied
FEATURES = "h.0.0.weight"  # reads s_audio beside s_text


def widen(narrow: dict[str, Tensor], config: NetworkConfig, factor: int) -> tuple[dict[str, Tensor], NetworkConfig]:
    """State of a LridNet → the state of one with `factor` times the channels in f, and its sizes; same logits."""
    n_audio = config.n_audio_features
    wide = {}
    for name, tensor in narrow.items():
        if name == FEATURES:
            audio = tensor[:, :n_audio].repeat_interleave(factor, dim=1) / factor
            wide[name] = torch.cat([audio, tensor[:, n_audio:]], dim=1)
        elif name.startswith("f.") and tensor.dim() == 4:
            copied = tensor.repeat_interleave(factor, dim=0)
            wide[name] = copied if name == FIRST else copied.repeat_interleave(factor, dim=1) / factor
        elif name.startswith("f.") and tensor.dim() == 1:
            wide[name] = tensor.repeat_interleave(factor)
        else:
            wide[name] = tensor.clone()
    return wide, config.model_copy(update={"base_channels": config.base_channels * factor})


def largest_difference(narrow: LridNet, wide: LridNet, x_audio: Tensor, x_lang: Tensor) -> float:
    """max |Δ logits| of two networks in evaluation mode."""
    with torch.no_grad():
        return (narrow.eval()(x_audio, x_lang) - wide.eval()(x_audio, x_lang)).abs().max().item()
