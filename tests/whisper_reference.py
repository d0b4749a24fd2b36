"""Whisper written a second time, in NumPy and float64, as the paper has it; and small checkpoints with random weights.

Attention is computed in full: keys and values of every position, in the decoder as in the encoder. Nothing is folded.
"""

import numpy as np
import torch
from scipy.special import erf
from torch import Tensor

from app.families.parts.whisper_checkpoint import HEAD_STATE, START_OF_TRANSCRIPT

Array = np.ndarray
CUT = "model.decoder.embed_tokens.weight.rows_50257_to_50364"


def random_checkpoint(*, n_state: int = 128, n_layer: int = 2, n_mels: int = 80, n_positions: int = 50) -> dict[str, Tensor]:
    """Hugging Face's names, random fp32 tensors of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(0)
    d = n_state

    def random(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    tensors: dict[str, Tensor] = {}

    def linear(name: str, n_out: int, *n_in: int, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = random(n_out, *n_in, scale=float(np.prod(n_in)) ** -0.5)
        if bias:
            tensors[f"{name}.bias"] = random(n_out, scale=0.1)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = 1 + random(d, scale=0.1)
        tensors[f"{name}.bias"] = random(d, scale=0.1)

    linear("model.encoder.conv1", d, n_mels, 3)
    linear("model.encoder.conv2", d, d, 3)
    tensors["model.encoder.embed_positions.weight"] = random(n_positions, d, scale=0.3)
    tensors["model.decoder.embed_positions.weight"] = random(4, d, scale=0.3)
    tensors[CUT] = random(108, d, scale=1.0)
    for side in ("encoder", "decoder"):
        norm(f"model.{side}.layer_norm")
        for i in range(n_layer):
            layer = f"model.{side}.layers.{i}"
            for attention in ["self_attn"] + ["encoder_attn"] * (side == "decoder"):
                norm(f"{layer}.{attention}_layer_norm")
                for p in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{layer}.{attention}.{p}", d, d, bias=p != "k_proj")
            norm(f"{layer}.final_layer_norm")
            linear(f"{layer}.fc1", 4 * d, d)
            linear(f"{layer}.fc2", d, 4 * d)
    return tensors


class Reference:
    """Mel spectrogram of one window → hidden, and logits of any tokens."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.w = {name: tensor.double().numpy() for name, tensor in tensors.items()}
        self.n_layer = len({name.split(".")[3] for name in tensors if name.startswith("model.encoder.layers.")})

    def hidden(self, mel: Array) -> Array:
        """(n_mels, 2t) → (d,)."""
        x = self._gelu(self._convolution("model.encoder.conv1", mel, 1))
        x = self._gelu(self._convolution("model.encoder.conv2", x, 2)).T  # (t, d)
        x = x + self.w["model.encoder.embed_positions.weight"][: len(x)]
        for i in range(self.n_layer):
            x = self._layer(f"model.encoder.layers.{i}", x, None)
        heard = self._norm("model.encoder.layer_norm", x)
        y = (self.row(START_OF_TRANSCRIPT) + self.w["model.decoder.embed_positions.weight"][0])[None]  # (1, d)
        for i in range(self.n_layer):
            y = self._layer(f"model.decoder.layers.{i}", y, heard)
        return self._norm("model.decoder.layer_norm", y)[0]

    def row(self, token: int) -> Array:
        return self.w[CUT][token - 50257]

    def _layer(self, name: str, x: Array, heard: Array | None) -> Array:
        normed = self._norm(f"{name}.self_attn_layer_norm", x)
        x = x + self._attention(f"{name}.self_attn", normed, normed)
        if heard is not None:
            normed = self._norm(f"{name}.encoder_attn_layer_norm", x)
            x = x + self._attention(f"{name}.encoder_attn", normed, heard)
        normed = self._norm(f"{name}.final_layer_norm", x)
        return x + self._linear(f"{name}.fc2", self._gelu(self._linear(f"{name}.fc1", normed)))

    def _attention(self, name: str, x: Array, to: Array) -> Array:
        q, k, v = (
            self._linear(f"{name}.{p}", y).reshape(len(y), -1, HEAD_STATE).transpose(1, 0, 2)
            for p, y in (("q_proj", x), ("k_proj", to), ("v_proj", to))
        )  # each (h, t, 64)
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(HEAD_STATE))  # (h, t, t')
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ v  # (h, t, 64)
        return self._linear(f"{name}.out_proj", mixed.transpose(1, 0, 2).reshape(len(x), -1))

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0.0)

    def _convolution(self, name: str, x: Array, stride: int) -> Array:
        padded = np.pad(x, ((0, 0), (1, 1)))
        taps = [padded[:, k : k + x.shape[1] : stride] for k in range(3)]
        weight = self.w[f"{name}.weight"]
        return sum(weight[:, :, k] @ taps[k] for k in range(3)) + self.w[f"{name}.bias"][:, None]

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    @staticmethod
    def _gelu(x: Array) -> Array:
        return x * 0.5 * (1.0 + erf(x / np.sqrt(2.0)))
