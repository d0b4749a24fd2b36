"""Reads a catalogue: one row per track, with any of audio, artist, album and title, and its language.

CSV, TSV or Parquet (told by the suffix). Columns: `label` or `language` (of both, the language, where it is a class); any of
`path` (relative to the catalogue), `artist`, `album`, `title`, `lyrics`; optionally `split` (train, valid, test; default
train) and `strength` (how the label came about, free text). Other columns are kept as they are. In a TSV quotes have no
special meaning; in a CSV cells may be quoted.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.domain import LYRICS, METADATA_FIELDS, NOTHING_SUNG, Metadata
from app.lab.corpus.tables import Record, Table, read_table
from app.lab.corpus.tags import TAGS, most_frequent
from app.lab.errors import CorpusError
from app.lab.labels import WORLD_ALIASES

SPLITS = ("train", "valid", "test")
LANGUAGE_CODE = re.compile("[a-z]{2,3}")
ALIASES = WORLD_ALIASES | {"instrumental": NOTHING_SUNG}
LANGUAGE, ARTIST = "language", "artist"  # where artists are the classes, each is in every split
LABEL_COLUMNS = ("label", LANGUAGE)  # the first that a row fills


@dataclass(frozen=True, slots=True)
class Row:
    """One track of a catalogue."""

    where: str  # in the file: "line 2", below the header in line 1; in a Parquet file "row 1"
    path: Path | None  # of the audio
    metadata: Metadata
    label: int  # index among the labels it was read with; -1 where none was asked for
    split: str
    strength: str  # "" when the catalogue does not say
    cells: Mapping[str, str] = field(default_factory=dict, compare=False)  # the record, other columns among them


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a corpus, and what to do about it."""

    kind: str  # of FINDINGS in `app.lab.corpus.check`
    where: str  # such as "line 12"
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}"


def read_catalogue(path: Path, codes: Sequence[str] | None, *, rest: str | None = None, column: str = LANGUAGE) -> list[Row]:
    """Rows in file order; codes that are not in `codes` count as `rest`. None: no labels. Raises CorpusError naming one."""
    rows = []
    for row in parse(read_table(path), codes, rest, column):
        if isinstance(row, Finding):
            raise CorpusError(f"{path.name}, {row}")
        rows.append(row)
    if not rows:
        raise CorpusError(f"{path} holds no rows; a catalogue needs a header and one row a track")
    return rows


def parse(
    table: Table, codes: Sequence[str] | None, rest: str | None = None, column: str = LANGUAGE
) -> Iterator[Row | Finding]:
    """Yields each record as a row, or what is wrong with it. Raises CorpusError about the columns."""
    check_columns(table, () if codes is None else label_columns(column))
    index = None if codes is None else {code: i for i, code in enumerate(codes)}
    for where, record in table.records.items():
        code = label_of(record, column)
        if index is not None and column == LANGUAGE:
            code = class_code(record, index)
            if rest and code not in index and LANGUAGE_CODE.fullmatch(code):
                code = rest
        yield _row(table.path.parent, where, record, code, index)


def classes_of(path: Path, column: str) -> list[str]:
    """Lists the labels in a column, alphabetically; tags by frequency. Raises CorpusError unless there are two."""
    table = read_table(path)
    check_columns(table, (column,))
    if column == TAGS:
        return [label.code for label in most_frequent(table.records.values())]
    found = sorted({label for record in table.records.values() if (label := label_of(record, column))})
    if len(found) < 2:
        raise CorpusError(f"{path}: column {column!r} has {len(found)} labels; a classifier needs two at least")
    return found


def check_columns(table: Table, labels: Sequence[str]) -> None:
    """Raises CorpusError unless a catalogue can be made of them; `labels`: one of these is needed, if there are any."""
    columns = set(table.columns)
    if labels and not columns & set(labels):
        raise CorpusError(f"{table.path}: no column {' or '.join(map(repr, labels))}; found {sorted(columns)}")
    if not columns & {"path", *METADATA_FIELDS, LYRICS}:
        raise CorpusError(f"{table.path}: needs at least one of the columns path, artist, album, title, lyrics")


def label_columns(column: str) -> tuple[str, ...]:
    """Names the columns whose first filled one holds the label."""
    return LABEL_COLUMNS if column == LANGUAGE else (column,)


def label_of(record: Mapping[str, str], column: str = LANGUAGE) -> str:
    """Returns the label of a record, "" where there is none."""
    return next((value for name in label_columns(column) if (value := record.get(name, "").strip())), "")


def class_code(record: Mapping[str, str], codes: Collection[str]) -> str:
    """Returns the language, else the label, that is a class or part of one (`yue` of `zh`); else `label_of` the record."""
    given = [record.get(column, "").strip() for column in reversed(LABEL_COLUMNS)]
    known = (code for one in given for code in (one, ALIASES.get(one)) if code in codes)
    return next((code for code in known if code), label_of(record))


def _row(folder: Path, where: str, record: Record, code: str, index: Mapping[str, int] | None) -> Row | Finding:
    metadata = Metadata(**{name: record.get(name) or None for name in METADATA_FIELDS})
    given = record.get("path", "").strip()
    split = record.get("split", "").strip() or "train"
    if not given and not metadata.fields and not record.get(LYRICS, "").strip():
        what = "neither audio nor metadata"
        return Finding("empty_row", where, what, "Fill path, artist, album, title or lyrics, or drop the row")
    if index is not None and code not in index:
        remedy = f"Known: {', '.join(index)}. Map it to one of these, or drop the row"
        return Finding("unknown_label", where, f"unknown label {code!r}" if code else "no label", remedy)
    if split not in SPLITS:
        return Finding("unknown_split", where, f"split is {split!r}", f"Write one of {', '.join(SPLITS)}")
    path = folder / given if given else None
    label = -1 if index is None else index[code]
    return Row(where, path, metadata, label, split, record.get("strength", "").strip(), record)


def artist_key(artist: str | None) -> str:
    """Spellings of one artist have one key; "" stands for none."""
    return " ".join((artist or "").split()).casefold()
