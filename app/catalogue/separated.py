"""CSV and TSV of any size, read a row at a time: a bad row costs only itself."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.catalogue.errors import InputUnreadable
from app.catalogue.rows import Row, malformed, row_of_cells
from app.domain import LYRICS

TSV_SUFFIXES = frozenset({".tsv", ".tab"})
MOST_LINES = 50  # of one row; where no quote closes within so many, the first line alone is bad
MOST_LINES_WITH_LYRICS = 500  # the same where a column holds lyrics
MOST_CHARACTERS = 1_000_000  # of one row
_UNCLOSED = "unexpected end of data"


def read_header(path: Path) -> list[str]:
    """Column names. Raises InputUnreadable."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            columns = _cells(path, [file.readline(MOST_CHARACTERS)])
    except (OSError, csv.Error) as error:
        raise InputUnreadable(f"{path} cannot be read: {error}") from error
    if not columns or len(set(columns)) != len(columns):
        raise InputUnreadable(f"{path}: its first line should name the columns, each once")
    return columns


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Every row below the header; those that are not of its form with an error. Raises InputUnreadable."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        file.readline()
        most = MOST_LINES_WITH_LYRICS if LYRICS in columns else MOST_LINES
        for position, cells in enumerate(_records(path, iter(file.readline, ""), most), start=1):
            if isinstance(cells, str):
                yield malformed(position, cells)
            elif len(cells) > len(columns):
                yield malformed(position, f"{len(cells)} cells, but the header has {len(columns)}")
            else:
                yield row_of_cells(dict(zip(columns, cells, strict=False)), position, path.parent)


def _records(path: Path, lines: Iterator[str], most_lines: int) -> Iterator[list[str] | str]:
    """Cells of each row, or what is wrong with it."""
    ahead: deque[str] = deque()
    while True:
        taken = [ahead.popleft() if ahead else next(lines, "")]
        if not taken[0]:
            return
        if not taken[0].strip():
            continue
        while True:
            try:
                yield _cells(path, taken)
            except csv.Error as error:
                open_quote = str(error) == _UNCLOSED
                if open_quote and _grown(taken, ahead, lines, most_lines):
                    continue
                ahead.extendleft(reversed(taken[1:]))
                yield "a quote is not closed" if open_quote else str(error)
            break


def _grown(taken: list[str], ahead: deque[str], lines: Iterator[str], most_lines: int) -> bool:
    """Whether the row goes on to a line that may close its quote; the lines up to there are taken."""
    size = sum(map(len, taken))
    while len(taken) < most_lines and size < MOST_CHARACTERS and (line := ahead.popleft() if ahead else next(lines, "")):
        taken.append(line)
        size += len(line)
        if '"' in line:
            return True
    return False


def _cells(path: Path, lines: Sequence[str]) -> list[str]:
    if path.suffix in TSV_SUFFIXES:  # quotes have no special meaning
        return lines[0].rstrip("\r\n").split("\t")
    return next(csv.reader(lines, strict=True), [])
