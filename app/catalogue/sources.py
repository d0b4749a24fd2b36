"""Reads songs from a folder, a list of files, a table or NDJSON, row by row."""

import importlib
import json
import os
import select
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from app.catalogue.errors import InputUnreadable, NotAnswered, ScoresUnreadable
from app.catalogue.files import FileAnswer, find_files, printable
from app.catalogue.rows import READ_COLUMNS, Row, malformed, row_of_cells
from app.catalogue.separated import TSV_SUFFIXES, read_header, read_rows
from app.domain import Language, Metadata
from app.families.tasks import Json

LIST_SUFFIXES = frozenset({".txt", ".lst", ".m3u", ".m3u8"})
NDJSON_SUFFIXES = frozenset({".ndjson", ".jsonl"})
STDIN = "-"
MOST_LINE_BYTES = 10_000_000  # of NDJSON
_READ_BYTES = 1 << 16  # a pipe's
_SILENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Source:
    """Songs, in the order of the input."""

    columns: list[str]
    total: int | None  # rows, if that is known beforehand
    rows: Iterator[Row | None]  # None: nothing more has come yet, so do not wait for a full group


def open_source(given: str) -> Source:
    """Raises InputUnreadable."""
    if given == STDIN:
        return _ndjson(_piped(), Path(), None)
    path = Path(given)
    try:
        return _open(path)
    except OSError as error:
        raise InputUnreadable(f"{printable(path)} cannot be read: {error.strerror}") from error


def open_songs(given: str) -> Source:
    """`open_source` of songs to answer: of a table's columns at least one is read. Raises InputUnreadable."""
    source = open_source(given)
    is_table = given != STDIN and Path(given).suffix.lower() not in NDJSON_SUFFIXES
    if is_table and not {*READ_COLUMNS} & {*source.columns}:
        raise InputUnreadable(
            f"{given}: expected a column of {', '.join(READ_COLUMNS)}; found {', '.join(map(repr, source.columns))}"
        )
    return source


def folder_rows(folder: Path) -> Iterator[Row]:
    """Audio files below a folder; the path is the id."""
    for found in find_files(folder):
        name = printable(found.path)
        yield Row(name, Metadata(), found.path, cells={"path": name}, error=found.error)


def _open(path: Path) -> Source:
    path.stat()  # a path that is not there is named as such, whatever its suffix
    if path.is_dir():
        return Source(["path"], sum(1 for _ in find_files(path)), folder_rows(path))
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return open_parquet(path)
    if suffix == ".csv" or suffix in TSV_SUFFIXES:
        columns = read_header(path)
        return Source(columns, max(0, _count_lines(path) - 1), read_rows(path, columns))
    if suffix in LIST_SUFFIXES:
        return Source(["path"], None, _listed(path))
    if suffix in NDJSON_SUFFIXES:
        return _ndjson(_blocks(path), path.parent, _count_lines(path))
    raise InputUnreadable(f"{printable(path)} is neither a folder nor of a suffix that is read")


def _listed(path: Path) -> Iterator[Row]:
    """Read a list: one path per line, relative to the list; `#` begins a comment. A folder is walked."""
    with path.open("rb") as file:
        for line in file:
            name = os.fsdecode(line.strip(b"\r\n").removeprefix(b"\xef\xbb\xbf"))
            if name.strip() and not name.startswith("#"):
                yield from folder_rows(path.parent / name)


def _ndjson(blocks: Iterator[bytes], folder: Path, total: int | None) -> Source:
    """The columns are the members of the first object."""
    rows = _json_rows(blocks, folder)
    first = next((row for row in rows if row is not None), None)
    if first is None:
        return Source([], 0, iter(()))
    return Source(list(first.cells), total, chain([first], rows))


def _json_rows(blocks: Iterator[bytes], folder: Path) -> Iterator[Row | None]:
    position, rest = 0, b""
    for block in chain(blocks, [b"\n"]):  # where the last line has no end
        *lines, rest = (rest[: MOST_LINE_BYTES + 1] + block).split(b"\n")
        for line in lines:
            if line.strip():
                position += 1
                yield _json_row(line, position, folder)
        yield None


def _piped() -> Iterator[bytes]:
    """Standard input, as it comes; an empty block after a silence, so that earlier rows are answered meanwhile."""
    while True:
        if not select.select([0], [], [], _SILENCE_SECONDS)[0]:
            yield b""
        elif block := os.read(0, _READ_BYTES):
            yield block
        else:
            return


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_READ_BYTES), b"")


def _json_row(line: bytes, position: int, folder: Path) -> Row:
    if len(line) > MOST_LINE_BYTES:
        return malformed(position, f"the line is longer than {MOST_LINE_BYTES} bytes")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return malformed(position, f"the line is not JSON: {error}")
    if not isinstance(found, dict):
        return malformed(position, "the line should be a JSON object")
    others = {
        name: json.dumps(value, ensure_ascii=False) for name, value in found.items() if not isinstance(value, str | None)
    }
    return row_of_cells(text_cells(found | others), position, folder)


def text_cells(record: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in record.items()}


def open_parquet(path: Path) -> Source:
    """Read the columns, and rows as they are asked for. Raises InputUnreadable."""
    arrow = parquet_module()
    try:
        file = arrow.ParquetFile(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise InputUnreadable(f"{printable(path)} is not Parquet: {error}") from error
    columns = list(file.schema_arrow.names)
    if len(set(columns)) != len(columns):
        raise InputUnreadable(f"{printable(path)}: it should name the columns, each once")
    return Source(columns, file.metadata.num_rows, _parquet_rows(file, path))


def _parquet_rows(file: Any, path: Path) -> Iterator[Row]:
    """Raises InputUnreadable where the file is damaged."""
    n = 0
    try:
        for batch in file.iter_batches(batch_size=4096):
            for record in _records(batch):
                n += 1
                wrong = isinstance(record, str)
                yield malformed(n, record) if wrong else row_of_cells(text_cells(record), n, path.parent)
    except (OSError, ValueError) as error:
        raise InputUnreadable(f"{printable(path)} cannot be read behind row {n}: {error}") from error


def _records(batch: Any) -> list[Any]:
    """Rows as dicts; the reason, for one that Python cannot hold: years beyond its own, unknown time zones, no UTF-8."""
    try:
        return list(batch.to_pylist())
    except (ArithmeticError, LookupError, ValueError) as error:
        if batch.num_rows == 1:
            return [str(error)]
        return [record for at in range(batch.num_rows) for record in _records(batch.slice(at, 1))]


def parquet_module() -> Any:
    """Raises InputUnreadable without pyarrow."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputUnreadable("Parquet needs pyarrow: install the extra `train`, or use CSV or NDJSON") from error


def _count_lines(path: Path) -> int:
    return sum(block.count(b"\n") for block in _blocks(path))


def scored_files(table: Path, languages: Sequence[Language]) -> Iterator[FileAnswer]:
    """As much of each answer as a tag needs, for rows with a path; malformed ones by number. Raises ScoresUnreadable."""
    try:
        source = open_source(str(table))
    except InputUnreadable as error:
        raise ScoresUnreadable(error.detail) from error
    if missing := {"path", "language", "probability", "error"} - set(source.columns):
        raise ScoresUnreadable(f"{table} is no output of `lrid score` with files: it lacks {', '.join(sorted(missing))}")
    codes = [{"code": language.code, "iso639_3": language.iso639_3} for language in languages]
    for row in source.rows:
        if row is not None and row.error is not None and not row.cells:
            yield FileAnswer(Path(row.id), None, row.error)  # a line of no form: its file is not known
        if row is None or not (given := row.cells.get("path")):
            continue
        path = Path(given) if Path(given).exists() else table.parent / given  # as `score` was given it, or beside the table
        try:
            yield FileAnswer(path, _answer(row.cells["language"], row.cells["probability"], codes), None)
        except (KeyError, ValueError):
            yield FileAnswer(path, None, NotAnswered(f"the table has no answer: {row.cells.get('error', '')}"))


def _answer(language: str, probability: str, codes: Sequence[Json]) -> Json:
    """Raises ValueError where there is none."""
    if not 0 <= (sure := float(probability)) <= 1:  # NaN too, which would pass for more than any bound
        raise ValueError(f"{probability} is no probability")
    return {"language": language, "probability": sure, "languages": codes}
