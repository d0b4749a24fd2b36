"""g and h for serving: the same layers as the network's, with BatchNorm folded in, on the CPU.

They are 0.6 M multiplications beside f's 26,450 M. Run once a request on the CPU in fp32, they cost microseconds, cannot
depend on what else is being served, and never wait for the device. What costs is to fetch the weights: a row whose input is
0, as of a field that is not given, is not looked at.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from app.domain import FloatArray
from app.families.compiled import compiled
from app.families.lrid_net.network import LridNet

IndexArray = npt.NDArray[np.int64]


# Weight (n_in, n_out), bias (n_out,), and of each row from where to where it is not 0, (n_in, 2): networks that stand side
# by side in one have zeros beside them.
Dense = tuple[FloatArray, FloatArray, IndexArray]


def dense(weight: FloatArray, bias: FloatArray) -> Dense:
    used = weight != 0
    first, last = used.argmax(axis=1), weight.shape[1] - used[:, ::-1].argmax(axis=1)
    spans = np.stack([first, np.where(used.any(axis=1), last, first)], axis=1)
    return np.ascontiguousarray(weight), np.ascontiguousarray(bias), spans.astype(np.int64)


@compiled
def through(x: FloatArray, layers: tuple[Dense, ...]) -> FloatArray:
    """(n_in,) → (n_out,) of the last layer; a ReLU between each two."""
    for weight, bias, spans in layers:
        out = bias.copy()
        add_product(x, weight, spans, out)
        x = np.maximum(out, np.float32(0.0))
    return out


@compiled
def add_product(x: FloatArray, weight: FloatArray, spans: IndexArray, out: FloatArray) -> None:
    """out += x @ weight, always in the same order: four rows at a time, those with an input of 0 left out."""
    rows = np.zeros(len(x) + 3, np.int64)
    n = 0
    for row in range(len(x)):
        rows[n] = row
        n += x[row] != 0.0
    for i in range(0, n, 4):
        a, b, c, d = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        xa = x[a]
        xb = x[b] if i + 1 < n else np.float32(0.0)
        xc = x[c] if i + 2 < n else np.float32(0.0)
        xd = x[d] if i + 3 < n else np.float32(0.0)
        first = min(spans[a, 0], spans[b, 0], spans[c, 0], spans[d, 0])
        last = max(spans[a, 1], spans[b, 1], spans[c, 1], spans[d, 1])
        wa, wb, wc, wd = weight[a, first:last], weight[b, first:last], weight[c, first:last], weight[d, first:last]
        sums = out[first:last]
        for j in range(len(sums)):
            sums[j] += xa * wa[j] + xb * wb[j] + xc * wc[j] + xd * wd[j]


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
    return dense(weight.detach().numpy(), bias.detach().numpy())


class Head:
    """s_audio and x_lang → logits."""

    def __init__(self, network: LridNet, silent_features: FloatArray) -> None:
        """`silent_features` is f(0), (2048,): what a missing audio becomes. It is a constant of the release."""
        with torch.no_grad():
            read = [_fold(layer) for layer in network.g]  # type: ignore[arg-type]
            hidden, bias, _ = _fold(network.h[0])  # type: ignore[arg-type]
            last = network.h[1]
            assert isinstance(last, nn.Linear)
            self._out = dense(last.weight.T.numpy(), last.bias.numpy())  # (256 → classes)
        n_audio = silent_features.shape[0]
        self._audio_weight = np.ascontiguousarray(hidden[:n_audio])  # (2048, 256)
        no_audio = silent_features @ self._audio_weight  # (256,)
        self._text = (*read, dense(hidden[n_audio:], bias))  # (56 → 128 → 256)
        self._text_alone = (*read, dense(hidden[n_audio:], bias + no_audio), self._out)
        self._no_text = np.zeros(len(read[0][0]), np.float32)  # (56,)

    def __call__(self, features: FloatArray | None, x_lang: FloatArray | None) -> FloatArray:
        """(n, 2048) and/or (56,) → logits (n, classes); `None` is a missing modality; n is 1 without audio."""
        x_lang = self._no_text if x_lang is None else x_lang
        if features is None:
            return through(x_lang, self._text_alone)[None]
        hidden = np.maximum(features @ self._audio_weight + through(x_lang, self._text), 0.0)  # (n, 256)
        weight, bias, _ = self._out
        return hidden @ weight + bias  # type: ignore[no-any-return]
