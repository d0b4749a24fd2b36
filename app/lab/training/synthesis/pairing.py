"""Real metadata for made singing: each clip gets a row of the same class and the same split, never of `test`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.domain import METADATA_FIELDS, Metadata
from app.lab.training.synthesis.errors import MetadataUnusable
from app.lab.training.synthesis.lines import SPLITS, Split

COLUMNS = ("split", "label", "language", "artist", "album", "title")


@dataclass(frozen=True)
class MetadataRows:
    """The rows clips may be paired with, in the order of the file."""

    by_language: dict[tuple[Split, str, str], list[Metadata]]  # (split, label, language)
    by_label: dict[tuple[Split, str], list[Metadata]]

    def draw(self, split: Split, label: str, language: str, rng: np.random.Generator) -> Metadata:
        """A row of the split and the label, of the very language if there is one (this matters in `others`)."""
        rows = self.by_language.get((split, label, language)) or self.by_label[split, label]
        return rows[int(rng.integers(len(rows)))]


def load_rows(path: Path, labels: tuple[str, ...]) -> MetadataRows:
    """Rows of the splits `train` and `valid` from a TSV with at least COLUMNS.

    Raises:
        MetadataUnusable: the file is missing, lacks a column, or has no row for a label in one of the splits.
    """
    rows = MetadataRows({}, {})
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or [])]
            if missing:
                raise MetadataUnusable(f"{path} has no column {', '.join(missing)}.")
            for row in reader:
                _keep(rows, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MetadataUnusable(f"The metadata cannot be read: {error}.") from error
    lacking = [f"{label} in {split}" for split in SPLITS for label in labels if (split, label) not in rows.by_label]
    if lacking:
        raise MetadataUnusable(f"{path} has no row for {', '.join(lacking)}.")
    return rows


def _keep(rows: MetadataRows, row: dict[str, str]) -> None:
    for split in SPLITS:
        if row["split"] == split:
            metadata = Metadata(*(" ".join((row[name] or "").split()) or None for name in METADATA_FIELDS))
            rows.by_label.setdefault((split, row["label"]), []).append(metadata)
            rows.by_language.setdefault((split, row["label"], row["language"]), []).append(metadata)
