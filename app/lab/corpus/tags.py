"""Reads tags of a catalogue: several labels per row, in the column `tags`, separated by semicolons."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from app.domain import FloatArray
from app.families.contract import Label
from app.lab.errors import CorpusError

TAGS = "tags"
SEPARATOR = ";"
_NO_CODE = re.compile(r"[^a-z0-9]+")


def code_of(tag: str) -> str:
    """`Female Voice` → `female_voice`; "" if nothing is left."""
    return _NO_CODE.sub("_", tag.casefold()).strip("_")[:64]


def tags_of(cells: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags of a row: names by code."""
    names = [name.strip() for name in cells.get(TAGS, "").split(SEPARATOR)]
    return {code: name for name in names if (code := code_of(name))}


def most_frequent(rows: Iterable[Mapping[str, str]], n: int | None = None) -> list[Label]:
    """Lists the tags of the rows by frequency; `n` of them at most. Raises CorpusError if there are fewer than two."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for cells in rows:
        found = tags_of(cells)
        counts.update(found.keys())
        names = found | names  # the first spelling is kept
    if len(counts) < 2:
        raise CorpusError(f"column {TAGS!r} has {len(counts)} tags; two are needed at least, separated by {SEPARATOR!r}")
    return [
        Label(code=code, iso639_3=None, name=names[code])
        for code in sorted(counts, key=lambda code: (-counts[code], code))[:n]
    ]


def truth_of(rows: Sequence[Mapping[str, str]], codes: Sequence[str]) -> FloatArray:
    """Returns (n_rows, n_tags): 1 where a tag applies; tags that are not in `codes` are left out. Raises CorpusError."""
    if not any(TAGS in cells for cells in rows):
        raise CorpusError(f"the catalogue has no column {TAGS!r}: the tags of each row, separated by {SEPARATOR!r}")
    return np.array([[code in tags for code in codes] for tags in map(tags_of, rows)], np.float32)


def refuse_undecided(truth: FloatArray, codes: Sequence[str], split: str) -> None:
    """Raises CorpusError naming tags without a positive, or a negative, row: nothing can be learnt or measured of them."""
    positive = truth.sum(axis=0)
    for share, what in ((0, "no positive example"), (len(truth), "no negative example")):
        if bad := [code for code, n in zip(codes, positive.tolist(), strict=True) if n == share]:
            raise CorpusError(
                f"{what} of {', '.join(bad)} in split {split} ({len(truth)} rows): add such rows, split again, or leave the "
                "tags out (settings n_tags or labels)"
            )
