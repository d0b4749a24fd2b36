"""A song of many: what is known of it, and what is answered about it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from app.catalogue.errors import RowDuplicate, RowMalformed
from app.catalogue.files import printable
from app.domain import LYRICS, METADATA_FIELDS, NOTHING_SUNG, Metadata, Track
from app.errors import LridError
from app.families.tasks import headline_of

ID = "id"
PATH_COLUMNS = ("path", "file")  # the first that a row fills names its audio
READ_COLUMNS = (*PATH_COLUMNS, *METADATA_FIELDS, LYRICS)  # any of them


@dataclass(frozen=True, slots=True)
class Row:
    """One song as the input has it."""

    id: str  # unlike all others, the same whenever the input is read again
    metadata: Metadata
    path: Path | None = None  # of the audio
    lyrics: str | None = None  # read where the release does
    cells: Mapping[str, str] = field(default_factory=dict)  # columns of the input, kept in the output
    error: LridError | None = None  # why it cannot be answered

    @property
    def track(self) -> Track:
        """What is written about it; nothing is checked yet."""
        return Track(None, self.metadata, {} if self.lyrics is None else {LYRICS: self.lyrics})


class Scored(NamedTuple):
    """The answer in short; its fields are columns of the output, "" or None where there is nothing to say."""

    language: str = ""  # a class, or `und`, `zxx`, `mul`; of another release its genre, or the most probable tag
    probability: float | None = None
    runner_up: str = ""  # with `und` the leading language
    runner_up_probability: float | None = None
    modalities: str = ""  # that were used, such as audio+text
    seconds: float | None = None  # length of the audio
    sung_seconds: float | None = None  # of it
    warnings: str = ""  # codes
    error: str = ""  # a code

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Shorten the body of an answer."""
        found, uses = headline_of(answer), answer["modalities"]
        other = found.runner_up
        return cls(
            found.label,
            found.probability,
            other["code"] if other else "",
            other["probability"] if other else None,
            "+".join([name for name, use in uses.items() if use["used"]]),
            uses["audio"]["seconds"],
            _sung_seconds(found.label, uses["audio"]),
            "+".join([warning["code"] for warning in uses["audio"]["warnings"]]),
        )


def _sung_seconds(language: str, audio: Mapping[str, Any]) -> float | None:
    """The length, as much of it as is sung in the windows that were listened to; all of it where the release cannot tell."""
    seconds, sung = audio["seconds"], audio["sung_windows"]
    if seconds is None:
        return None
    share = 0.0 if language == NOTHING_SUNG else 1.0 if sung is None else sung / max(1, audio["windows"])
    return round(float(seconds) * share, 1)


ANSWER_COLUMNS = Scored._fields
NUMBER_COLUMNS = frozenset({"probability", "runner_up_probability", "seconds", "sung_seconds"})


def columns_of(given: list[str]) -> list[str]:
    """Columns of the output: the id, the input's other columns, those of the answer."""
    return [ID, *(kept_name(name) for name in given if name != ID), *ANSWER_COLUMNS]


def kept_name(column: str) -> str:
    """An input's column that is called as one of the answer's gets a name of its own."""
    return f"input_{column}" if column in ANSWER_COLUMNS else column


def row_of_cells(cells: Mapping[str, str], position: int, folder: Path) -> Row:
    """A row of a table or a line of NDJSON. `position` is its id if it has none; paths are relative to `folder`."""
    given = next((cells[name] for name in PATH_COLUMNS if cells.get(name, "").strip()), "")
    metadata = Metadata(**{name: cells.get(name) or None for name in METADATA_FIELDS})
    lyrics = cells.get(LYRICS) or None
    error = None
    try:
        f"{metadata.joined}{lyrics or ''}".encode()
    except UnicodeEncodeError:
        error = RowMalformed("artist, album, title or lyrics is not UTF-8")
    name = printable(cells[ID].strip()) or _unnamed(position) if ID in cells else str(position)
    return Row(name, metadata, folder / given if given else None, lyrics, cells, error)


def _unnamed(position: int) -> str:
    """The id of a row in whose place a number could be that of another."""
    return f"row {position}"


def malformed(position: int, detail: str) -> Row:
    return Row(_unnamed(position), Metadata(), error=RowMalformed(detail))


def unlike(rows: Iterable[Row], times: dict[int, int]) -> Iterator[Row]:
    """A second row of one id gets the id `ID#2` and an error. `times`: how often each id came so far, by its hash."""
    for row in rows:
        key = hash(row.id)
        times[key] = n = times.get(key, 0) + 1
        if n == 1:
            yield row
            continue
        again = replace(row, id=f"{row.id}#{n}", error=RowDuplicate("a row before has the same id"))
        times[hash(again.id)] = 1
        yield again
