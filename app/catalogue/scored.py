"""Tables that `lrid score` made, read again: answers without a second listening."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from app.catalogue.errors import InputUnreadable, NotAnswered
from app.catalogue.files import FileAnswer
from app.catalogue.sources import open_source
from app.domain import Language
from app.families.tasks import Json


def scored_files(table: Path, languages: Sequence[Language]) -> Iterator[FileAnswer]:
    """As much of each answer as a tag needs, for rows with a path; malformed ones by number. Raises InputUnreadable."""
    source = open_source(str(table))
    if missing := {"path", "language", "probability", "error"} - set(source.columns):
        raise InputUnreadable(f"{table} is no output of `lrid score` with files: it lacks {', '.join(sorted(missing))}")
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
    return {"language": language, "probability": float(probability), "languages": codes}
