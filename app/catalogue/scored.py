"""Tables that `lrid score` made, read again: answers without a second listening."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.catalogue.errors import InputUnreadable, NotAnswered
from app.catalogue.sources import open_source
from app.domain import Language
from app.errors import LridError
from app.families.tasks import Json


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """A row with audio, and as much of its answer as a tag needs; exactly one of answer and error is there."""

    path: Path
    answer: Json | None
    error: LridError | None


def scored_files(table: Path, languages: Sequence[Language]) -> Iterator[ScoredFile]:
    """Rows without a path are left out. Raises InputUnreadable."""
    source = open_source(str(table))
    if missing := {"path", "language", "probability", "error"} - set(source.columns):
        raise InputUnreadable(f"{table} is no output of `lrid score` with files: it lacks {', '.join(sorted(missing))}")
    codes = [{"code": language.code, "iso639_3": language.iso639_3} for language in languages]
    for row in source.rows:
        if row is None or not (given := row.cells.get("path")):
            continue
        path = Path(given) if Path(given).exists() else table.parent / given  # as `score` was given it, or beside the table
        try:
            yield ScoredFile(path, _answer(row.cells["language"], row.cells["probability"], codes), None)
        except (KeyError, ValueError):
            yield ScoredFile(path, None, NotAnswered(f"the table has no answer: {row.cells.get('error', '')}"))


def _answer(language: str, probability: str, codes: Sequence[Json]) -> Json:
    """Raises ValueError where there is none."""
    return {"language": language, "probability": float(probability), "languages": codes}
