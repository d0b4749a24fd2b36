"""Answers songs in a process that Ray has started, with decoders and ears of its own."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from app.catalogue.here import Listen
from app.catalogue.names import load_names
from app.catalogue.processes import Answer, scored_by_names
from app.catalogue.ray.songs import CODE
from app.catalogue.rows import ANSWER_COLUMNS, ID, NUMBER_COLUMNS, READ_COLUMNS, Row, Scored, kept_name, row_of_cells
from app.catalogue.sources import as_text
from app.errors import LridError
from app.local import listener
from app.settings import Settings

_READ = (ID, *READ_COLUMNS, CODE)


class Scorer:
    """Table of songs → the same table with columns of answers. Ears are started with the first file, the reader likewise."""

    def __init__(self, settings: Settings, folder: Path, lyrics_from_tags: bool = False) -> None:
        """`folder`: to which paths are relative."""
        self._lyrics_from_tags = lyrics_from_tags
        self._settings = settings
        self._folder = folder
        self._runner = asyncio.Runner()
        self._started = AsyncExitStack()
        self._listen: Listen | None = None
        self._answer: Answer | None = None

    def __call__(self, songs: Any) -> Any:
        """A `pyarrow.Table` → another, row by row. Raises ReleaseError; anything else is the error of its row."""
        records = songs.select([name for name in _READ if name in songs.column_names]).to_pylist()
        rows = [row_of_cells(_cells(record), 0, self._folder) for record in records]
        codes = [record.get(CODE) or "" for record in records]
        return _with_answers(songs, self._runner.run(self._scored(rows, codes)))

    def close(self) -> None:
        """End ears and decoders. A worker of Ray ends with its process instead."""
        self._runner.run(self._started.aclose())
        self._runner.close()

    async def _scored(self, rows: Sequence[Row], codes: Sequence[str]) -> list[Scored]:
        if self._listen is None and any(row.path is not None for row in rows):
            self._listen = await self._started.enter_async_context(
                listener(self._settings, lyrics_from_tags=self._lyrics_from_tags)
            )
        if self._answer is None and any(row.path is None for row in rows):
            self._answer = load_names(self._settings)
        found = [
            Scored(error=code or ("" if row.error is None else row.error.code))
            for row, code in zip(rows, codes, strict=True)
        ]
        good = [place for place, one in enumerate(found) if not one.error]
        names = [place for place in good if rows[place].path is None]
        files = [place for place in good if rows[place].path is not None]
        answers = scored_by_names(self._answer, [rows[place].track for place in names]) if self._answer and names else []
        heard = await asyncio.gather(*(self._file(rows[place]) for place in files))
        for place, one in zip([*names, *files], [*answers, *heard], strict=True):
            found[place] = one
        return found

    async def _file(self, row: Row) -> Scored:
        assert self._listen is not None
        try:
            return Scored.of(await self._listen(row))
        except LridError as error:
            return Scored(error=error.code)


def _cells(record: Mapping[str, Any]) -> Mapping[str, str]:
    return as_text({name: None if value is None else str(value) for name, value in record.items()})


def _with_answers(songs: Any, scored: Sequence[Scored]) -> Any:
    arrow = importlib.import_module("pyarrow")
    kept = songs.drop_columns([CODE]) if CODE in songs.column_names else songs
    found = kept.rename_columns([kept_name(name) for name in kept.column_names])
    for place, name in enumerate(ANSWER_COLUMNS):
        kind = arrow.float64() if name in NUMBER_COLUMNS else arrow.string()
        found = found.append_column(name, arrow.array([one[place] for one in scored], kind))
    return found
