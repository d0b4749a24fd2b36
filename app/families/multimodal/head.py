"""Identify: the paper's 1-D ResNet (§3.2) with BatchNorm folded in, in NumPy. Milliseconds for a song.

The feature vector is cut into positions of `step` numbers, its channels: Wang et al.'s three blocks of three convolutions,
average pooling over the positions, softmax. One position a number would tell a language by patterns of neighbouring numbers
alone, and learns none from a few thousand segments; the lab's README has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.multimodal.manifest import ResNetConfig

MEAN, SCALE, FALLBACK = "input.mean", "input.scale", "input.fallback"  # (d,), (d,), and of consumption what stands for none


def shapes(config: ResNetConfig, sizes: Mapping[str, int], n_classes: int) -> dict[str, tuple[int, ...]]:
    """Of the tensors of a release, by name."""
    d = sum(sizes.values())
    found: dict[str, tuple[int, ...]] = {MEAN: (d,), SCALE: (d,), FALLBACK: (sizes["consumption"],)}
    n_in = config.step
    for block, n_out in enumerate(config.channels):
        for layer, kernel in enumerate((*config.kernels, 1)):  # the last is the shortcut
            width = n_in if layer in {0, 3} else n_out
            found |= {f"blocks.{block}.{layer}.weight": (n_out, width, kernel), f"blocks.{block}.{layer}.bias": (n_out,)}
        n_in = n_out
    return found | {"out.weight": (n_classes, n_in), "out.bias": (n_classes,)}


class MultimodalHead:
    """Deterministic, and any number of threads may call."""

    def __init__(
        self, config: ResNetConfig, sizes: Mapping[str, int], n_classes: int, tensors: Mapping[str, FloatArray]
    ) -> None:
        """Raises ReleaseError for a missing, misshapen or broken tensor, by its name."""
        self._config, self._sizes = config, dict(sizes)
        for name, shape in shapes(config, sizes, n_classes).items():
            tensor = tensors.get(name, np.zeros(0, np.float32))
            if tensor.shape != shape or not np.isfinite(tensor).all():
                raise ReleaseError(f"weights.safetensors: '{name}' should be {shape} and finite; is {tensor.shape}")
        self._tensors = dict(tensors)
        self._layers = [
            [
                (_rows(tensors[f"blocks.{block}.{layer}.weight"]), tensors[f"blocks.{block}.{layer}.bias"])
                for layer in range(4)
            ]
            for block in range(len(config.channels))
        ]

    def __call__(self, parts: Mapping[str, FloatArray | None]) -> FloatArray:
        """Numbers by modality, (n, size) or (size,); None: missing. → (n, n_classes) probabilities."""
        x = sequence(self._standardised(parts), self._sizes, self._config.step)  # (n, length, step)
        for *layers, shortcut in self._layers:
            y = x
            for layer, kernel in zip(layers, self._config.kernels, strict=True):
                y = _convolved(y, *layer, kernel)
                if layer is not layers[-1]:
                    y = np.maximum(y, 0)
            x = np.maximum(y + _convolved(x, *shortcut, 1), 0)
        logits = x.mean(axis=1) @ self._tensors["out.weight"].T + self._tensors["out.bias"]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def _standardised(self, parts: Mapping[str, FloatArray | None]) -> FloatArray:
        """(n, d); what is missing is the average of the training songs, or for consumption the release's fallback."""
        n = max((len(part) for part in parts.values() if part is not None and part.ndim == 2), default=1)
        columns, start = [], 0
        for name, size in self._sizes.items():
            own, part = slice(start, start + size), parts.get(name)
            if part is None:
                missing = self._tensors[FALLBACK] if name == "consumption" else np.zeros(size, np.float32)
                columns.append(np.broadcast_to(missing, (n, size)))
            else:
                scaled = (part - self._tensors[MEAN][own]) / self._tensors[SCALE][own]
                columns.append(np.broadcast_to(scaled, (n, size)))
            start += size
        return np.concatenate(columns, axis=1).astype(np.float32)


def sequence(x: FloatArray, sizes: Mapping[str, int], step: int) -> FloatArray:
    """(n, d) → (n, length, step): each modality is filled up with zeros to whole positions."""
    parts = np.split(x, np.cumsum(list(sizes.values()))[:-1], axis=1)
    return np.concatenate([np.pad(part, ((0, 0), (0, -part.shape[1] % step))) for part in parts], axis=1).reshape(
        len(x), -1, step
    )


def _rows(weight: FloatArray) -> FloatArray:
    """(out, in, kernel) → (in * kernel, out)."""
    return np.ascontiguousarray(weight.reshape(len(weight), -1).T)


def _convolved(x: FloatArray, rows: FloatArray, bias: FloatArray, kernel: int) -> FloatArray:
    """(n, length, in) → (n, length, out), zeros beyond the ends."""
    wide = np.pad(x, ((0, 0), ((kernel - 1) // 2, kernel // 2), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(wide, kernel, axis=1)  # (n, length, in, kernel)
    return seen.reshape(*x.shape[:2], -1) @ rows + bias
