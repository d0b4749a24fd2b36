"""A folder that is kept scored: files are answered once they have come whole."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from app.catalogue.rows import Row
from app.catalogue.score import Scoring
from app.catalogue.sources import folder_rows

State = tuple[int, int]  # size in bytes, time of change in ns


async def watch(scoring: Scoring, folder: Path, between_seconds: float) -> None:
    """Until cancelled. A file is whole when it keeps size and time between two looks; each is answered once."""
    before: dict[str, State | None] = {}
    while True:
        looked = await asyncio.to_thread(lambda: list(_look(folder)))
        whole = [row for row, state in looked if (row.error or before.get(row.id) == state) and not scoring.has(row)]
        await scoring.run(whole)
        scoring.forget()
        before = {row.id: state for row, state in looked}
        await asyncio.sleep(between_seconds)


def _look(folder: Path) -> Iterator[tuple[Row, State | None]]:
    for row in folder_rows(folder):
        try:
            status = row.path.stat() if row.path is not None else None
        except OSError:
            continue  # gone since
        yield row, status and (status.st_size, status.st_mtime_ns)
