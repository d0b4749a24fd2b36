"""Reads and writes tables of text cells: CSV, TSV and Parquet, whole or not at all."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from app.lab.errors import CorpusError

TSV_SUFFIXES = {".tsv", ".tab"}
SUFFIXES = {".csv", ".parquet", *TSV_SUFFIXES}
Record = dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Holds column names, and records with where they stand. Cells that are missing are ""."""

    columns: list[str]
    records: list[tuple[int, Record]]
    unit: Literal["line", "row"]  # what the number of a record counts: lines of the file, or rows from 1


def read_table(path: Path) -> Table:
    """Reads all of a table. Raises CorpusError if it is none."""
    _check_suffix(path)
    try:
        return _read_parquet(path) if path.suffix == ".parquet" else _read_text(path)
    except (OSError, ValueError, csv.Error) as error:  # ArrowInvalid is a ValueError
        raise CorpusError(f"{path} cannot be read: {error}; expected UTF-8 CSV or TSV with a header, or Parquet") from error


def read_tab_separated(path: Path, columns: Sequence[str], owner: str) -> list[Record]:
    """Reads a data set's own tab-separated file, whatever its suffix. Raises CorpusError unless it has `columns`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="")
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                found = ", ".join(list(reader.fieldnames or ())[:9]) or "nothing"
                raise CorpusError(f"{path}: no column {', '.join(missing)}; found {found}. Expected {owner}'s own file")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read ({error}); expected the folder of {owner}") from error


def write_table(path: Path, columns: Sequence[str], records: Iterable[Record]) -> Path:
    """Replaces `path`, and returns it; of a failed try nothing stays. Raises CorpusError."""
    _check_suffix(path)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            rows = list(records)
            arrow = _pyarrow()
            arrow.parquet.write_table(arrow.table({name: [row.get(name, "") for row in rows] for name in columns}), part)
        else:
            _write_text(part, path.suffix in TSV_SUFFIXES, columns, records)
        return part.replace(path)
    except OSError as error:
        raise CorpusError(f"{path} cannot be written ({error}); free some disk or choose another place") from error
    finally:
        part.unlink(missing_ok=True)


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise CorpusError(f"{path}: unknown kind of table; expected one of {', '.join(sorted(SUFFIXES))}")


def _read_text(path: Path) -> Table:
    """Reads UTF-8 with a header. In a TSV quotes have no special meaning."""
    tabs: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix in TSV_SUFFIXES else {}
    records = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, **tabs)
        columns: list[str] = next(reader, [])
        while (cells := _next(reader, path)) is not None:
            if len(cells) > len(columns):
                raise CorpusError(
                    f"{path.name}, line {reader.line_num}: {len(cells)} cells, but the header has {len(columns)}. "
                    "A cell with the separator in it needs quotes (CSV) or has to lose it (TSV)"
                )
            if cells:  # no empty line
                records.append((reader.line_num, dict(zip(columns, cells, strict=False))))
    return Table(columns, records, "line")


def _next(reader: Any, path: Path) -> list[str] | None:
    """Returns the next row; None behind the last. Raises CorpusError naming the line of a row that cannot be read."""
    begins = reader.line_num + 1
    try:
        return next(reader, None)
    except csv.Error as error:
        most = f"a cell may have {csv.field_size_limit():,} characters at most. Shorten it, or close its quote"
        raise CorpusError(f"{path.name}, line {begins}: {error}; {most}") from error


def _write_text(path: Path, tabs: bool, columns: Sequence[str], records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if not tabs:
            plain = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
            plain.writeheader()
            plain.writerows(records)
            return
        file.write("\t".join(columns) + "\n")
        for record in records:  # a tab or a line break inside a cell becomes a space: a TSV has no quotes
            file.write("\t".join(" ".join(record.get(name, "").split()) for name in columns) + "\n")


def _read_parquet(path: Path) -> Table:
    table = _pyarrow().parquet.read_table(path)
    rows = ({k: "" if v is None else str(v) for k, v in row.items()} for row in table.to_pylist())
    return Table(list(table.column_names), list(enumerate(rows, start=1)), "row")


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CorpusError("Parquet needs pyarrow: python -m pip install -e '.[train]', or write CSV or TSV") from error
    return pyarrow  # type: ignore[no-any-return]
