"""Songs as Parquet, which the machines of a cluster read in parts: given so, or written from any other input."""

import importlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from app.catalogue.errors import FileUnreadable, InputUnreadable
from app.catalogue.files import printable
from app.catalogue.rows import ID, PATH_COLUMNS, READ_COLUMNS, Row, kept_name, unlike
from app.catalogue.sources import NDJSON_SUFFIXES, STDIN, open_parquet, open_source, parquet_module
from app.domain import LYRICS, METADATA_FIELDS

CODE = "lrid_error"  # column of what is written here: why a row cannot be answered
_ROWS_PER_FILE = 50_000


@dataclass(frozen=True, slots=True)
class Songs:
    """Parquet with a column of ids, unlike each other."""

    files: tuple[Path, ...]
    folder: Path  # to which paths of audio are relative
    id_column: str
    has_audio: bool  # at least a column for it


def find_songs(given: str, output: Path) -> Songs:
    """Parquet stays where it is; anything else is written into a folder beside `output`. Raises InputUnreadable."""
    path = Path(given)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return _checked((path,), path.parent)
    if path.is_dir() and (files := tuple(sorted(path.glob("*.parquet")))):
        return _checked(files, path)
    return _checked(_written(given, output.with_name(f"{output.name}.songs")), Path())


def _checked(files: tuple[Path, ...], folder: Path) -> Songs:
    """Look at the ends of the files, where Parquet keeps its columns. Raises InputUnreadable."""
    columns: list[str] = []
    for file in files:
        found = open_parquet(file).columns
        if columns and found != columns:
            raise InputUnreadable(f"{printable(file)} has other columns than {printable(files[0])}")
        columns = found
    ids = next((name for name in (ID, *PATH_COLUMNS) if name in columns), None)
    if not {*READ_COLUMNS} & {*columns}:
        raise InputUnreadable(
            f"expected a column of {', '.join(sorted(READ_COLUMNS))}; found {', '.join(columns) or 'none'}"
        )
    if ids is None:
        raise InputUnreadable("expected a column `id` that is unlike in every row: its parts are read by several machines")
    dataset = importlib.import_module("pyarrow.dataset")
    no_id = importlib.import_module("pyarrow.compute").field(ids).is_null()
    for file in files:
        if missing := dataset.dataset(file).count_rows(filter=no_id):
            raise InputUnreadable(f"{printable(file)}: {missing} rows have no `{ids}`")
    return Songs(files, folder.absolute(), ids, bool({*PATH_COLUMNS} & {*columns}))


def _written(given: str, folder: Path) -> tuple[Path, ...]:
    """Write the rows of a folder, list, table or NDJSON as text, with ids that are unlike each other."""
    arrow, parquet = importlib.import_module("pyarrow"), parquet_module()
    source = open_source(given)
    further = ("path", *METADATA_FIELDS, LYRICS) if given == STDIN or Path(given).suffix.lower() in NDJSON_SUFFIXES else ()
    columns = dict.fromkeys((*source.columns, *further))  # any object may have them, not only the first
    names = [ID, *(kept_name(name) for name in columns if name != ID), CODE]
    schema = arrow.schema([(name, arrow.string()) for name in names])
    rows = unlike((row for row in source.rows if row is not None), {})
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files: list[Path] = []
    while records := [_record(row) for row in islice(rows, _ROWS_PER_FILE)]:
        files.append(folder / f"{len(files):06}.parquet")
        parquet.write_table(arrow.Table.from_pylist(records, schema=schema), files[-1])
    if not files:
        raise InputUnreadable(f"{printable(given)} holds no songs")
    return tuple(files)


def _record(row: Row) -> Mapping[str, str]:
    cells = {kept_name(name): _utf8(cell) for name, cell in row.cells.items()}
    code = "" if row.error is None else row.error.code
    if row.path is not None:
        path = _utf8(str(row.path.absolute()))
        code = code or ("" if path == str(row.path.absolute()) else FileUnreadable.code)  # Parquet can hold no such name
        cells |= dict.fromkeys((name for name in PATH_COLUMNS if cells.get(name)), path)
    return {**cells, ID: row.id, CODE: code}


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
