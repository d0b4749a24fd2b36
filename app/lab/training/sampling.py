"""How often rows are drawn, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from app.lab.corpus.catalogue import Row


def count(rows: Sequence[Row], n_classes: int) -> npt.NDArray[np.int64]:
    """(n_classes,) rows of each class."""
    return np.bincount([row.label for row in rows], minlength=n_classes)


def class_mix(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """(n_classes,) sampling probabilities, proportional to count ** power: 1 leaves the mix, 0 makes it uniform."""
    weights = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    return weights / weights.sum()  # type: ignore[no-any-return]


def row_probabilities(
    rows: Sequence[Row], mix: npt.NDArray[np.float64], weight: Callable[[Row], float] = lambda row: 1.0
) -> npt.NDArray[np.float64]:
    """(n_rows,) such that each class is drawn as `mix` says and, inside a class, rows are drawn by `weight`."""
    labels = np.array([row.label for row in rows])
    weights = np.array([weight(row) for row in rows], np.float64)
    totals = np.bincount(labels, weights, minlength=len(mix))
    return mix[labels] * weights / totals[labels]  # type: ignore[no-any-return]


def shuffled(n_rows: int, batch_size: int, n_batches: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Batches of row numbers: every row once before any comes again."""
    order = np.zeros(0, np.int64)
    for _ in range(n_batches):
        if len(order) < batch_size:
            order = np.concatenate([order, rng.permutation(n_rows)])
        yield order[:batch_size]
        order = order[batch_size:]
