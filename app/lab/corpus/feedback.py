"""`lrid corpus feedback` makes a catalogue to train on of the corrections that a server kept.

A correction says which audio it is about by the file's SHA-256, or by the id of the answer; the songs at hand are looked
through for both. What stays without a file has the names that the server kept, if any.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from app.domain import METADATA_FIELDS, MULTIPLE
from app.lab.corpus.tables import Record, check_output, write_table
from app.lab.errors import CorpusError

COLUMNS = ("path", *METADATA_FIELDS, "language", "strength", "answer", "hash", "id")
STRENGTH = "feedback"
_CODE = re.compile(r"[a-z]{2,3}|others")


class Song(NamedTuple):
    """A song that the corrections may be about."""

    id: str
    path: Path | None
    cells: Mapping[str, str]  # columns `hash`, `artist`, `album`, `title`, if there are any


@dataclass(slots=True)
class FeedbackReport:
    """Counts the corrections by language, and those that no row was made of by the reason."""

    languages: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def feedback_corpus(feedback: Path, songs: Iterable[Song], output: Path, *, force: bool = False) -> FeedbackReport:
    """Writes a row per song; later corrections of the same audio, or answer, replace earlier ones. Raises CorpusError."""
    check_output(output, force=force)
    report = FeedbackReport()
    corrections = _read(feedback, report.left_out)
    records = {key: {name: str(line.get(name) or "") for name in COLUMNS} for key, line in corrections.items()}
    for song in songs:
        for key in (song.cells.get("hash", ""), song.id, _sha256(song.path)):
            if key in records:
                records[key] |= _known(song)
    found = []
    for key, record in records.items():
        if any(record[name] for name in ("path", *METADATA_FIELDS)):
            found.append(record | {"language": corrections[key]["correction"], "strength": STRENGTH})
            report.languages[found[-1]["language"]] += 1
        else:
            report.left_out["of songs that are not at hand, without names"] += 1
    write_table(output, COLUMNS, found)
    return report


def _read(path: Path, left_out: Counter[str]) -> dict[str, dict[str, Any]]:
    """Returns corrections by hash, where there is one, else by id. Raises CorpusError."""
    found = {}
    try:
        with path.open("rb") as file:
            for line in file:
                if (correction := _correction(line)) is None:
                    left_out["lines that are no correction"] += 1
                elif correction["correction"] == MULTIPLE:
                    left_out["songs in several languages"] += 1
                else:
                    found[str(correction.get("hash") or correction["id"])] = correction
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error}); expected the file of LRID_FEEDBACK_FILE") from error
    return found


def _correction(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
        return found if found["id"] and _CODE.fullmatch(found["correction"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def _known(song: Song) -> Record:
    """Returns what a song says of itself."""
    names: Record = {name: song.cells[name] for name in METADATA_FIELDS if song.cells.get(name)}
    return names if song.path is None else names | {"path": str(song.path.resolve())}


def _sha256(path: Path | None) -> str:
    """ "" for a file that cannot be read."""
    try:
        return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
