"""A training manifest: one row a track, with any of audio, artist, album and title, and its language.

CSV or TSV (told by the suffix) with a header. Columns: `label` or `language`; any of `path` (relative to the manifest),
`artist`, `album`, `title`; optionally `split` (train, valid, test; default train), `strength` (how the label came about,
free text) and `domain` (a kind of audio that not every class has, such as `human` beside `synthetic`: in training its rows
compete only among the classes it has, so that the kind itself tells no language). Other columns are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.domain import METADATA_FIELDS, Metadata
from app.training.errors import CorpusError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One track of a manifest."""

    line: int  # in the file, the header is line 1
    path: Path | None  # of the audio
    metadata: Metadata
    label: int  # index among the labels it was read with
    split: str
    strength: str  # "" when the manifest does not say
    domain: str = ""  # the same


@dataclass(frozen=True, slots=True)
class LabelledText:
    """The text half of some rows."""

    vectors: npt.NDArray[np.float32]  # (n, 56)
    labels: npt.NDArray[np.int64]  # (n,)


def read_manifest(path: Path, codes: Sequence[str], *, exclude_strength: Collection[str] = ()) -> list[Row]:
    """Rows in file order. Raises CorpusError naming the line and the remedy."""
    delimiter = "\t" if path.suffix in {".tsv", ".tab"} else ","
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    index = {code: i for i, code in enumerate(codes)}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)
            columns = set(reader.fieldnames or ())
            _check_columns(path, columns)
            rows = [_row(path, number, raw, index) for number, raw in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read: {error}; expected UTF-8 CSV or TSV with a header") from error
    kept = [row for row in rows if row.strength not in exclude_strength]
    if not kept:
        raise CorpusError(f"{path} holds no rows; a manifest needs a header and one row a track")
    return kept


def _check_columns(path: Path, columns: set[str]) -> None:
    if not columns & {"label", "language"}:
        raise CorpusError(f"{path}: no column 'label' or 'language'; found {sorted(columns)}")
    if not columns & {"path", *METADATA_FIELDS}:
        raise CorpusError(f"{path}: needs at least one of the columns path, artist, album, title")


def _row(manifest: Path, line: int, raw: dict[str, str | None], index: dict[str, int]) -> Row:
    where = f"{manifest.name}, line {line}"
    code = (raw.get("label") or raw.get("language") or "").strip()
    if code not in index:
        raise CorpusError(f"{where}: unknown label {code!r}; known: {', '.join(index)}. Map it, or drop the row")
    split = (raw.get("split") or "train").strip()
    if split not in SPLITS:
        raise CorpusError(f"{where}: split is {split!r}; expected one of {', '.join(SPLITS)}")
    metadata = Metadata(**{name: raw.get(name) or None for name in METADATA_FIELDS})
    given = (raw.get("path") or "").strip()
    path = manifest.parent / given if given else None
    if path is None and not metadata.fields:
        raise CorpusError(f"{where}: neither audio nor metadata; fill path, artist, album or title, or drop the row")
    strength, domain = ((raw.get(name) or "").strip() for name in ("strength", "domain"))
    return Row(line, path, metadata, index[code], split, strength, domain)


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


def check_artists(rows: Sequence[Row]) -> None:
    """Raises CorpusError if an artist stands in two splits (paper §4.1: every artist in one side only)."""
    seen: dict[str, Row] = {}
    for row in rows:
        artist = (row.metadata.artist or "").strip().casefold()
        if not artist:
            continue
        first = seen.setdefault(artist, row)
        if first.split != row.split:
            raise CorpusError(
                f"line {row.line}: artist {row.metadata.artist!r} is in split {row.split}, and in {first.split} on line "
                f"{first.line}; keep every artist in one split"
            )
