"""Rows of answers, appended to a file as they come. What is there when the next run begins is kept and not asked again.

A row is written whole or not at all: a part of one, left by a process that was killed or by a full disk, is cut off. Parquet
cannot grow, so its rows are kept as NDJSON beside it until the end.
"""

import contextlib
import csv
import importlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from app.catalogue.errors import InputUnreadable, OutputFailed, OutputUnfit
from app.catalogue.files import printable
from app.catalogue.rows import ANSWER_COLUMNS, ID, NUMBER_COLUMNS, Row, Scored, kept_name
from app.catalogue.separated import TSV_SUFFIXES, any_size
from app.catalogue.sources import NDJSON_SUFFIXES, parquet_module, text_cells

_TEXT_SUFFIXES = NDJSON_SUFFIXES | TSV_SUFFIXES | {".csv"}
_ROW_BEGINS = b'{"id": '  # in NDJSON
_ROWS_PER_GROUP = 50_000  # of Parquet, in memory at once


class Output:
    """The file that grows. `earlier` is what it held when it was opened."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Raises OutputFailed."""
        if path.suffix not in _TEXT_SUFFIXES | {".parquet"}:
            raise OutputUnfit(f"{printable(path)}: the suffix should be .csv, .tsv, .ndjson or .parquet")
        self._path = path
        self._columns = list(columns)
        self._parquet = path.suffix == ".parquet"
        self._text = path.with_name(f".{path.name}.ndjson") if self._parquet else path
        self._kind = self._text.suffix
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._parquet and path.exists() and not self._text.exists():
                self._unpack()
            self._file = self._text.open("r+b" if self._text.exists() else "x+b", buffering=0)
            try:
                self._end = self._recover()
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise OutputFailed(f"{printable(path)} cannot be opened: {error.strerror}") from error

    def earlier(self) -> Iterator[Mapping[str, str]]:
        """Rows of earlier runs, every cell as text. To be read before the first `write`."""
        with self._text.open(encoding="utf-8", newline="") as file, any_size():
            if self._kind in NDJSON_SUFFIXES:
                for line in file:
                    yield text_cells(json.loads(line))
            elif self._kind in TSV_SUFFIXES:
                yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            else:
                yield from csv.DictReader(file)

    def write(self, rows: Iterable[tuple[Row, Scored]]) -> None:
        """Append rows, so that a kill afterwards loses none. Raises OutputFailed, and nothing was written."""
        data = self._encoded([_record(row, scored) for row, scored in rows])
        try:
            self._file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # where this fails too, the next run cuts off the rest
                self._file.truncate(self._end)
            raise OutputFailed(f"{printable(self._path)}: {error.strerror}") from error
        self._end += len(data)

    def close(self) -> None:
        """Raises OutputFailed."""
        try:
            with self._file:
                os.fsync(self._file.fileno())
            if self._parquet:
                self._pack()
        except OSError as error:
            raise OutputFailed(f"{printable(self._path)}: {error.strerror}") from error

    def _recover(self) -> int:
        """Cut off an incomplete last row; returns the length. Raises OutputUnfit, and a file of others stays as it is."""
        length = _whole_rows(self._text, quotes=self._kind == ".csv")
        head = b"" if self._kind in NDJSON_SUFFIXES else self._lines([self._columns])
        begin = self._file.read(len(head)) if head else self._file.readline()
        if not (head.startswith(begin) if head else _is_row(begin)):
            raise OutputUnfit(f"{printable(self._path)} has other columns than this run would write")
        self._file.truncate(length)
        if length == 0:
            self._file.seek(0)
            self._file.write(head)
        return length or len(head)

    def _encoded(self, records: list[dict[str, Any]]) -> bytes:
        if self._kind in NDJSON_SUFFIXES:
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
            return "".join(lines).encode("utf-8", "backslashreplace")
        rows = [["" if (value := record.get(name)) is None else str(value) for name in self._columns] for record in records]
        return self._lines(rows)

    def _lines(self, rows: list[list[str]]) -> bytes:
        if self._kind in TSV_SUFFIXES:  # a tab or a line break inside a cell becomes a space: a TSV has no quotes
            text = "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
        else:
            text = "".join(map(_csv_line, rows))
        return text.encode("utf-8", "backslashreplace")

    def _pack(self) -> None:
        """NDJSON → Parquet, in the place of an earlier one at once."""
        arrow, parquet = importlib.import_module("pyarrow"), parquet_module()
        types = [(name, arrow.float64() if name in NUMBER_COLUMNS else arrow.string()) for name in self._columns]
        schema = arrow.schema(types)
        part = self._path.with_name(f".{self._path.name}.part")
        with self._text.open(encoding="utf-8") as file, parquet.ParquetWriter(part, schema) as writer:
            while lines := list(islice(file, _ROWS_PER_GROUP)):
                writer.write_table(arrow.Table.from_pylist([json.loads(line) for line in lines], schema=schema))
        part.replace(self._path)
        self._text.unlink()

    def _unpack(self) -> None:
        try:
            file = parquet_module().ParquetFile(self._path)
        except (ValueError, InputUnreadable) as error:
            raise OutputFailed(f"{printable(self._path)} cannot be read: {error}") from error
        if file.schema_arrow.names != self._columns:
            raise OutputUnfit(f"{printable(self._path)} has other columns than this run would write")
        part = self._text.with_name(f"{self._text.name}.part")
        with part.open("w", encoding="utf-8") as lines:
            for batch in file.iter_batches(batch_size=4096):
                lines.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in batch.to_pylist())
        part.replace(self._text)


def _csv_line(cells: list[str]) -> str:
    """With a line feed as its line's end the module `csv` would not quote a carriage return."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _record(row: Row, scored: Scored) -> dict[str, Any]:
    kept = {kept_name(name): cell for name, cell in row.cells.items() if name != ID}
    return {ID: row.id, **kept, **scored._asdict()}


def _is_row(line: bytes) -> bool:
    """Whether a line of NDJSON, whose end may be missing, is a row of answers."""
    if not line.endswith(b"\n"):
        return _ROW_BEGINS.startswith(line[: len(_ROW_BEGINS)])
    try:
        return {ID, *ANSWER_COLUMNS} <= set(json.loads(line))
    except (ValueError, TypeError):
        return False


def _whole_rows(path: Path, *, quotes: bool) -> int:
    """Bytes up to the end of the last whole row; with `quotes` a line break between them ends none."""
    length = place = 0
    is_open = False
    with path.open("rb") as file:
        for line in file:
            place += len(line)
            is_open ^= quotes and bool(line.count(b'"') % 2)
            if line.endswith(b"\n") and not is_open:
                length = place
    return length
