"""What the reader says of rows that it was not trained on, for many more of them than validation has.

Rows of the cleanest sources are few. So their artists are dealt into folds; for each fold networks are trained without
its rows and answer these. Temperatures and thresholds that fit all those answers fit a network trained on everything.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from app.families.lrid_net_plus.read import FieldReader
from app.lab.corpus.manifest import artist_key
from app.lab.training.corpus import Row, read_manifest
from app.lab.training.errors import CorpusError
from app.lab.training.plus_data import ALBUM, ARTIST, TITLE, Float64, Shelf, Texts, texts_of
from app.lab.training.train_plus import PlusConfig, fit_rows, predict, rows_of, sources_of

PATTERNS: dict[str, tuple[int, ...]] = {
    "all fields": (ARTIST, ALBUM, TITLE),
    "artist + title": (ARTIST, TITLE),
    "title only": (TITLE,),
}
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Answers to rows that were held out."""

    labels: npt.NDArray[np.int64]  # (n,)
    logits: dict[str, Float64]  # by pattern of given fields, (n, n_classes)


def fold_of(row: Row, n_folds: int) -> int:
    """All rows of an artist are in one fold."""
    return zlib.crc32(artist_key(row.metadata.artist).encode("utf-8", "surrogatepass")) % n_folds


def held_out_answers(
    config: PlusConfig,
    sources: Collection[str],
    *,
    n_folds: int = 3,
    n_seeds: int = 1,
    progress: Progress = lambda text: None,
) -> HeldOut:
    """Rows of `sources` in the splits train and valid, each answered by the mean logits of `n_seeds` networks.

    No row of the split test is looked at. Raises CorpusError if the sources have no rows.
    """
    train_rows, _ = rows_of(config)
    source = sources_of(config.manifest)
    asked = [row for row in read_manifest(config.manifest, config.codes) if _is_asked(row, source, sources)]
    if not asked:
        raise CorpusError(f"{config.manifest}: no rows of {', '.join(sources)} in train or valid")
    shelf = Shelf(FieldReader(config.read))
    rows: list[Row] = []
    logits: dict[str, list[Float64]] = {name: [] for name in PATTERNS}
    for fold in range(n_folds):
        held = [row for row in asked if fold_of(row, n_folds) == fold]
        kept = [row for row in train_rows if not _is_asked(row, source, sources) or fold_of(row, n_folds) != fold]
        networks = [fit_rows(replace(config, seed=config.seed + 100 * fold + i), kept, shelf) for i in range(n_seeds)]
        for name, fields in PATTERNS.items():
            texts = [_only(texts_of(row.metadata), fields) for row in held]
            found = torch.stack([predict(network, shelf, texts) for network in networks]).mean(dim=0)
            logits[name].append(found.numpy().astype(np.float64))
        rows += held
        progress(f"fold {fold + 1} of {n_folds}: {len(held)} rows answered by {n_seeds} networks")
    return HeldOut(np.array([row.label for row in rows]), {name: np.concatenate(parts) for name, parts in logits.items()})


def _is_asked(row: Row, source: dict[int, str], sources: Collection[str]) -> bool:
    return row.split in {"train", "valid"} and source.get(row.line) in sources


def _only(texts: Texts, fields: Sequence[int]) -> Texts:
    artist, album, title = (text if i in fields else None for i, text in enumerate(texts))
    return artist, album, title
