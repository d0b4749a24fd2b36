"""CSV and TSV of any size, read a row at a time: a bad row costs only itself."""

import csv
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from app.catalogue.errors import InputUnreadable
from app.catalogue.rows import Row, malformed, row_of_cells
from app.domain import LYRICS

TSV_SUFFIXES = frozenset({".tsv", ".tab"})
MOST_LINES = 50  # of one row; where no quote closes within so many, the first line alone is bad
MOST_LINES_WITH_LYRICS = 500  # the same where a column holds lyrics
_MOST_HEADER_CHARACTERS = 1_000_000


@contextmanager
def any_size() -> Iterator[None]:
    """Lift the bound of the module `csv`, 131,072 characters in a cell, which is one for the whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_header(path: Path) -> list[str]:
    """Column names. Raises InputUnreadable."""
    try:
        with _opened(path) as file, any_size():
            columns = _cells(path, iter([file.readline(_MOST_HEADER_CHARACTERS)]))
    except (OSError, csv.Error) as error:
        raise InputUnreadable(f"{path} cannot be read: {error}") from error
    if not columns or len(set(columns)) != len(columns):
        raise InputUnreadable(f"{path}: its first line should name the columns, each once")
    return columns


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Every row below the header; those that are not of its form with an error. Raises InputUnreadable."""
    with _opened(path) as file, any_size():
        file.readline()
        most = MOST_LINES_WITH_LYRICS if LYRICS in columns else MOST_LINES
        for position, cells in enumerate(_records(path, file, most), start=1):
            if isinstance(cells, str):
                yield malformed(position, cells)
            elif len(cells) > len(columns):
                yield malformed(position, f"{len(cells)} cells, but the header has {len(columns)}")
            else:
                yield row_of_cells(dict(zip(columns, cells, strict=False)), position, path.parent)


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _records(path: Path, file: TextIO, most_lines: int) -> Iterator[list[str] | str]:
    """Cells of each row, or what is wrong with it; then its first line alone is left out."""
    ahead: deque[str] = deque()
    while True:
        taken: list[str] = []

        def lines(taken: list[str] = taken) -> Iterator[str]:
            while len(taken) < most_lines and (line := ahead.popleft() if ahead else file.readline()):
                taken.append(line)
                yield line

        try:
            cells = _cells(path, lines())
            if not taken:
                return
            if taken[0].strip():
                yield cells
        except csv.Error as error:
            ahead.extendleft(reversed(taken[1:]))
            yield "a quote is not closed" if str(error) == "unexpected end of data" else str(error)


def _cells(path: Path, lines: Iterator[str]) -> list[str]:
    """One row, of as many lines as it needs. Raises csv.Error."""
    if path.suffix.lower() in TSV_SUFFIXES:  # quotes have no special meaning
        return next(lines, "").rstrip("\r\n").split("\t")
    return next(csv.reader(lines, strict=True), [])
