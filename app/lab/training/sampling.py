"""Draws rows in a random order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def shuffled(n_rows: int, batch_size: int, n_batches: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Yields batches of row numbers: every row once before any comes again."""
    order = np.zeros(0, np.int64)
    for _ in range(n_batches):
        if len(order) < batch_size:
            order = np.concatenate([order, rng.permutation(n_rows)])
        yield order[:batch_size]
        order = order[batch_size:]
