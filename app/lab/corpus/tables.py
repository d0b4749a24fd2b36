"""Reads and writes tables of text cells: CSV, TSV and Parquet, whole or not at all."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from app.lab.errors import CorpusError

TSV_SUFFIXES = {".tsv", ".tab"}
SUFFIXES = {".csv", ".parquet", *TSV_SUFFIXES}
Record = dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Holds column names, and records by where they stand: "line 2" of a file, "row 1" of Parquet. Missing cells are ""."""

    path: Path
    columns: list[str]
    records: dict[str, Record]


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


def check_output(path: Path, *, force: bool) -> None:
    """Raises CorpusError unless a table can be written there; one that exists is replaced by `force` alone."""
    _check_suffix(path)
    if path.exists() and not force:
        raise CorpusError(f"{path} exists; choose another name, or --force to replace it")


def write_table(path: Path, columns: Sequence[str], records: Iterable[Record]) -> Path:
    """Replaces `path`, and returns it; of a failed try nothing stays. Raises CorpusError."""
    _check_suffix(path)
    part = path.with_name(f".{path.name}.part")
    rows = ([record.get(name, "") for name in columns] for record in records)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            arrow, whole = _pyarrow(), list(rows)
            cells = {name: [row[i] for row in whole] for i, name in enumerate(columns)}
            arrow.parquet.write_table(arrow.table(cells), part)
        else:
            _write_text(part, path.suffix in TSV_SUFFIXES, chain([columns], rows))
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
    records = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, **tabs)
        columns = next(reader, [])
        last = reader.line_num
        try:
            for cells in reader:
                last = reader.line_num
                if len(cells) > len(columns):
                    raise CorpusError(
                        f"{path.name}, line {last}: {len(cells)} cells, but the header has {len(columns)}. "
                        "A cell with the separator in it needs quotes (CSV) or has to lose it (TSV)"
                    )
                if cells:  # no empty line
                    records[f"line {last}"] = dict(zip(columns, cells, strict=False))
        except csv.Error as error:
            most = f"a cell may have {csv.field_size_limit():,} characters at most. Shorten it, or close its quote"
            raise CorpusError(f"{path.name}, line {last + 1}: {error}; {most}") from error
    return Table(path, columns, records)


def _write_text(path: Path, tabs: bool, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if tabs:  # a tab or a line break inside a cell becomes a space: a TSV has no quotes
            file.writelines("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
        else:
            file.writelines(map(_csv_line, rows))


def _csv_line(cells: Sequence[str]) -> str:
    """Writes a line. With a line feed as its end the module `csv` would not quote a carriage return."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _read_parquet(path: Path) -> Table:
    table = _pyarrow().parquet.read_table(path)
    rows = ({k: "" if v is None else str(v) for k, v in row.items()} for row in table.to_pylist())
    return Table(path, list(table.column_names), {f"row {number}": row for number, row in enumerate(rows, start=1)})


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CorpusError("Parquet needs pyarrow: python -m pip install -e '.[train]', or write CSV or TSV") from error
    return pyarrow  # type: ignore[no-any-return]
