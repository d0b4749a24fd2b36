"""g and h for serving: the network's layers with BatchNorm folded in, in NumPy on the CPU.

They are 0.6 M multiplications beside f's 26,450 M. Run once per request in fp32, they cost microseconds, do not depend on
other requests, and never wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from app.domain import FloatArray
from app.families.lrid_net.network import LridNet

Dense = tuple[FloatArray, FloatArray]  # weight (n_in, n_out), bias (n_out,)


def through(x: FloatArray, layers: Sequence[Dense]) -> FloatArray:
    """(n_in,) → (n_out,) of the last layer, with a ReLU after each."""
    for weight, bias in layers:
        x = np.maximum(x @ weight + bias, np.float32(0.0))
    return x


def _fold(layer: nn.Module) -> Dense:
    """Linear followed by BatchNorm (evaluation) as one Dense."""
    assert isinstance(layer, nn.Sequential)
    linear, norm = layer[0], layer[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # (n_out,)
    bias = (linear.bias - norm.running_mean) * scale + norm.bias
    return np.ascontiguousarray((linear.weight * scale[:, None]).T.numpy()), bias.numpy()


class Head:
    """s_audio and x_lang → logits."""

    @torch.no_grad()
    def __init__(self, network: LridNet, silent_features: FloatArray) -> None:
        """`silent_features` is f(0), (2048,): what a missing audio becomes. It is a constant of the release."""
        self._read = [_fold(layer) for layer in network.g]  # (56 → 128)
        hidden, self._bias = _fold(network.h[0])
        last = network.h[1]
        assert isinstance(last, nn.Linear)
        self._out = np.ascontiguousarray(last.weight.T.numpy()), last.bias.numpy()  # (256 → classes)
        self._audio, self._text = hidden[: len(silent_features)], hidden[len(silent_features) :]  # (2048, 256), (128, 256)
        self._no_audio = silent_features @ self._audio  # (256,)
        self._no_text = np.zeros(len(self._read[0][0]), np.float32)  # (56,)

    def __call__(self, features: FloatArray | None, x_lang: FloatArray | None) -> FloatArray:
        """(n, 2048) and/or (56,) → logits (n, classes); `None` is a missing modality; n is 1 without audio."""
        heard = self._no_audio[None] if features is None else features @ self._audio  # (n, 256)
        read = through(self._no_text if x_lang is None else x_lang, self._read) @ self._text  # (256,)
        weight, bias = self._out
        logits: FloatArray = np.maximum(heard + (read + self._bias), np.float32(0.0)) @ weight + bias
        return logits
