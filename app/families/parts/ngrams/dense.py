"""The dense layers of the n-gram reader, for many rows at once."""

from __future__ import annotations

import numpy as np

from app.domain import FloatArray


def mean_logits_of_rows(
    sums: FloatArray, counted: FloatArray, weights: tuple[FloatArray, ...], biases: tuple[FloatArray, ...]
) -> FloatArray:
    """`mean_logits` for n rows at twice the speed: (n, n_fields, networks, size), (n, n_counted) → (n, n_classes).

    Not to the bit: BLAS adds up in another order.
    """
    n, n_fields, n_networks, size = sums.shape
    total = np.zeros((n, weights[-1].shape[2]), np.float32)
    for network in range(n_networks):
        h = np.concatenate([sums[:, :, network].reshape(n, n_fields * size), counted], axis=1)
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            h = np.maximum(h @ weight[network] + bias[network], np.float32(0.0))
        total += h @ weights[-1][network] + biases[-1][network]
    return total / np.float32(n_networks)
