"""g and h for serving: the same layers as the network's, with BatchNorm folded in, in numpy on the CPU.

They are 0.6 M multiplications beside f's 26,450 M. Run once a request on the CPU in fp32, they cost microseconds, cannot
depend on what else is being served, and never wait for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from app.domain import FloatArray
from app.families.lrid_net.network import LridNet


@dataclass(frozen=True, slots=True)
class Dense:
    """x → x @ weight + bias."""

    weight: FloatArray  # (n_in, n_out)
    bias: FloatArray  # (n_out,)

    def __call__(self, x: FloatArray) -> FloatArray:
        """(n, n_in) → (n, n_out)."""
        return x @ self.weight + self.bias


def _fold(layer: nn.Sequential) -> Dense:
    """Linear followed by BatchNorm (evaluation) as one Dense."""
    linear, norm = layer[0], layer[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # (n_out,)
    weight = (linear.weight * scale[:, None]).T
    bias = (linear.bias - norm.running_mean) * scale + norm.bias
    return Dense(weight.detach().contiguous().numpy(), bias.detach().numpy())


class Head:
    """s_audio and x_lang → logits."""

    def __init__(self, network: LridNet, silent_features: FloatArray) -> None:
        """`silent_features` is f(0), (2048,): what a missing audio becomes. It is a constant of the release."""
        with torch.no_grad():
            self._read = [_fold(layer) for layer in network.g]  # type: ignore[arg-type]
            hidden = _fold(network.h[0])  # type: ignore[arg-type]
            last = network.h[1]
            assert isinstance(last, nn.Linear)
            self._out = Dense(last.weight.T.contiguous().numpy(), last.bias.numpy())
        n_audio = silent_features.shape[0]
        self._audio_weight = np.ascontiguousarray(hidden.weight[:n_audio])  # (2048, 256)
        self._text = Dense(np.ascontiguousarray(hidden.weight[n_audio:]), hidden.bias)  # (128 → 256)
        self._n_text = self._read[0].weight.shape[0]
        self._no_audio = silent_features[None] @ self._audio_weight  # (1, 256)
        self._no_text = self._text_part(np.zeros(self._n_text, np.float32))  # (1, 256)

    def _text_part(self, x_lang: FloatArray) -> FloatArray:
        s_text = x_lang[None]  # (1, 56)
        for dense in self._read:
            s_text = np.maximum(dense(s_text), 0.0)  # (1, 128)
        return self._text(s_text)  # (1, 256)

    def __call__(self, features: FloatArray | None, x_lang: FloatArray | None) -> FloatArray:
        """(n, 2048) and/or (56,) → logits (n, classes); `None` is a missing modality; n is 1 without audio."""
        audio = self._no_audio if features is None else features @ self._audio_weight  # (n, 256)
        text = self._no_text if x_lang is None else self._text_part(x_lang)  # (1, 256)
        return self._out(np.maximum(audio + text, 0.0))
