"""`lrid corpus feedback` makes a catalogue to train on of the corrections that a server kept.

A correction says which audio it is about by the file's SHA-256, or by the id of the answer; the songs at hand are looked
through for both. What stays without a file has the names that the server kept, if any.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
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


class FeedbackReport(NamedTuple):
    """Counts the corrections by language, and those that no row was made of by the reason."""

    languages: Counter[str]
    left_out: Counter[str]


def feedback_corpus(feedback: Path, songs: Iterable[Song], output: Path, *, force: bool = False) -> FeedbackReport:
    """Writes a row per song; later corrections of the same audio, or answer, replace earlier ones. Raises CorpusError."""
    check_output(output, force=force)
    left_out: Counter[str] = Counter()
    records = _read(feedback, left_out)
    if not records:
        raise CorpusError(f"{feedback} holds no correction of one language; expected the file of LRID_FEEDBACK_FILE")
    for song in songs:
        for key in (song.cells.get("hash", ""), song.id, _sha256(song.path)):
            if key in records:
                records[key] |= {name: song.cells[name] for name in METADATA_FIELDS if song.cells.get(name)}
                records[key] |= {} if song.path is None else {"path": str(song.path.resolve())}
    found = [record for record in records.values() if any(record[name] for name in ("path", *METADATA_FIELDS))]
    if lost := len(records) - len(found):
        left_out["of songs that are not at hand, without names"] = lost
    write_table(output, COLUMNS, found)
    return FeedbackReport(Counter(record["language"] for record in found), left_out)


def _read(path: Path, left_out: Counter[str]) -> dict[str, Record]:
    """Returns corrections by hash, where there is one, else by id. Raises CorpusError."""
    found = {}
    try:
        with path.open("rb") as file:
            for correction in map(_correction, file):
                if correction is None:
                    left_out["lines that are no correction"] += 1
                elif correction["correction"] == MULTIPLE:
                    left_out["songs in several languages"] += 1
                else:
                    told = correction | {"language": correction["correction"], "strength": STRENGTH}
                    record = {name: str(told.get(name) or "") for name in COLUMNS}
                    found[record["hash"] or record["id"]] = record
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error}); expected the file of LRID_FEEDBACK_FILE") from error
    return found


def _correction(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
        return found if found["id"] and _CODE.fullmatch(found["correction"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def _sha256(path: Path | None) -> str:
    """Returns "" for a file that cannot be read."""
    try:
        return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
