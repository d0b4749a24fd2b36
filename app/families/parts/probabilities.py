"""Logits → probabilities, in numpy."""

import numpy as np

from app.domain import FloatArray


def softmax(logits: FloatArray) -> FloatArray:
    """(..., n) → the same; rows sum to 1."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def sigmoid(logits: FloatArray | np.float32) -> FloatArray:
    """The logistic function, without overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32)
