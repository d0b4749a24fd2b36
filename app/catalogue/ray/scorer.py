"""Answers songs in a process that Ray has started, with decoders and ears of its own."""

import asyncio
import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from app.catalogue.names import Answer, load_names, scored_by_names
from app.catalogue.ray.songs import CODE
from app.catalogue.rows import ANSWER_COLUMNS, ID, NUMBER_COLUMNS, READ_COLUMNS, Row, Scored, kept_name, row_of_cells
from app.catalogue.sources import text_cells
from app.local import Here
from app.serving.options import Options
from app.settings import Settings

_READ = (ID, *READ_COLUMNS, CODE)


class Scorer:
    """Table of songs → the same table with columns of answers. Ears are started with the first file, the reader likewise."""

    def __init__(self, settings: Settings, folder: Path, options: Options) -> None:
        """`folder`: to which paths are relative."""
        self._settings = settings
        self._folder = folder
        self._runner = asyncio.Runner()
        self._here = Here(settings, options)

    @cached_property
    def _answer(self) -> Answer:
        return load_names(self._settings)  # in this process, which is one of many

    def __call__(self, songs: Any) -> Any:
        """A `pyarrow.Table` → another, row by row. Raises ReleaseError; anything else is the error of its row."""
        records = songs.select([name for name in _READ if name in songs.column_names]).to_pylist()
        rows = [row_of_cells(text_cells(record), 0, self._folder) for record in records]
        codes = [
            record.get(CODE) or ("" if row.error is None else row.error.code)
            for record, row in zip(records, rows, strict=True)
        ]
        return _with_answers(songs, self._runner.run(self._scored(rows, codes)))

    def close(self) -> None:
        """End ears and decoders. A worker of Ray ends with its process instead."""
        self._runner.run(self._here.close())
        self._runner.close()

    async def _scored(self, rows: Sequence[Row], codes: Sequence[str]) -> list[Scored]:
        """`codes`: why a row cannot be answered, or ""."""
        good = [row for row, code in zip(rows, codes, strict=True) if not code]
        names = [row.track for row in good if row.path is None]
        read = iter(scored_by_names(self._answer, names) if names else [])
        heard = iter(await asyncio.gather(*(self._here.file(row) for row in good if row.path is not None)))
        return [
            Scored(error=code) if code else next(read if row.path is None else heard)
            for row, code in zip(rows, codes, strict=True)
        ]


def _with_answers(songs: Any, scored: Sequence[Scored]) -> Any:
    arrow = importlib.import_module("pyarrow")
    kept = songs.drop_columns([CODE]) if CODE in songs.column_names else songs
    found = kept.rename_columns([kept_name(name) for name in kept.column_names])
    for place, name in enumerate(ANSWER_COLUMNS):
        kind = arrow.float64() if name in NUMBER_COLUMNS else arrow.string()
        found = found.append_column(name, arrow.array([one[place] for one in scored], kind))
    return found
