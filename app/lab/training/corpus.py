"""Rows of a manifest as training draws them. What a manifest is stands in `app.lab.corpus.manifest`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from app.lab.corpus.manifest import Row, check_artists, read_manifest

__all__ = ["Row", "check_artists", "class_mix", "count", "read_manifest", "row_probabilities", "select"]


def select(rows: Sequence[Row], split: str, *, audio: bool) -> list[Row]:
    """Rows of a split that have audio, or those that have none."""
    return [row for row in rows if row.split == split and (row.path is not None) == audio]


def count(rows: Sequence[Row], n_classes: int) -> npt.NDArray[np.int64]:
    """(n_classes,) rows of each class."""
    return np.bincount([row.label for row in rows], minlength=n_classes)


def classes_of_domains(rows: Sequence[Row], n_classes: int) -> npt.NDArray[np.bool_]:
    """(n_rows, n_classes): the classes that the domain of each row has among `rows`; all where no domain is named."""
    has: dict[str, npt.NDArray[np.bool_]] = {"": np.ones(n_classes, bool)}
    for row in rows:
        has.setdefault(row.domain, np.zeros(n_classes, bool))[row.label] = True
    return np.stack([has[row.domain] for row in rows]) if rows else np.ones((0, n_classes), bool)


def class_mix(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """(n_classes,) sampling probabilities, proportional to count ** power: 1 leaves the mix, 0 makes it uniform."""
    weights = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    return weights / weights.sum()  # type: ignore[no-any-return]


def row_probabilities(
    rows: Sequence[Row], mix: npt.NDArray[np.float64], weight: Callable[[Row], float]
) -> npt.NDArray[np.float64]:
    """(n_rows,) such that each class is drawn as `mix` says and, inside a class, rows are drawn by `weight`."""
    labels = np.array([row.label for row in rows])
    weights = np.array([weight(row) for row in rows], np.float64)
    totals = np.bincount(labels, weights, minlength=len(mix))
    return mix[labels] * weights / totals[labels]  # type: ignore[no-any-return]
