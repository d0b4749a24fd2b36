"""`lrid corpus check` finds everything that is wrong with a corpus, before a training finds it row by row."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from app.domain import METADATA_FIELDS, FloatArray
from app.errors import InvalidOption
from app.families.contract import VectorField
from app.families.fields import further_values
from app.lab.corpus.catalogue import ARTIST, LANGUAGE, SPLITS, Finding, Row, artist_key, parse
from app.lab.corpus.tables import read_table
from app.lab.corpus.tags import TAGS, tags_of
from app.lab.errors import CorpusError
from app.lab.progress import QUIET, Progress

Decode = Callable[[Path], FloatArray]  # file → mono float32 samples; raises what it likes

FINDINGS = {
    "empty_row": "rows with neither audio nor metadata",
    "unknown_label": "unknown labels",
    "unknown_split": "unknown splits",
    "missing_audio": "missing files",
    "unreadable_audio": "unreadable audio",
    "duplicate": "duplicates",
    "contradiction": "duplicates with another label",
    "track_in_two_splits": "tracks in two splits",
    "artist_in_two_splits": "artists in two splits",
    "class_with_one_item": "classes with one item",
    "class_never_trained": "classes to validate that are never trained",
    "tag_never_validated": "tags to train that are never validated",
    "odd_vector": "vectors that are none, or of another length",
}
VECTOR = re.compile(r"\[[-+.,\deE\s]+\]")  # a JSON array of numbers
FATAL = {"artist_in_two_splits", "track_in_two_splits"}  # a training on such rows would measure what it has seen


@dataclass(frozen=True, slots=True)
class CorpusCheck:
    """Counts what a catalogue holds, and lists what is wrong with it."""

    rows: int  # that can be used
    counts: dict[str, dict[str, int]]  # of these by split and class, or tag
    with_audio: int
    with_metadata: int
    findings: list[Finding]

    @property
    def found(self) -> dict[str, int]:
        """Counts the findings of each kind that occurs."""
        kinds = Counter(finding.kind for finding in self.findings)
        return {kind: kinds[kind] for kind in FINDINGS if kind in kinds}


def check_corpus(
    path: Path,
    codes: Sequence[str],
    *,
    decode: Decode | None,
    column: str = LANGUAGE,
    jobs: int = 1,
    progress: Progress = QUIET,
) -> CorpusCheck:
    """Reads all of a catalogue and, with `decode`, all of its audio. Raises CorpusError if it is no catalogue."""
    parsed = list(parse(read_table(path), None if column == TAGS else codes, column=column))
    rows = [row for row in parsed if isinstance(row, Row)]
    findings = [finding for finding in parsed if isinstance(finding, Finding)]
    findings += _audio_findings(rows, decode, jobs, progress)
    expected = {"artist_in_two_splits"} if column == ARTIST else set()
    findings += [finding for finding in check_rows(rows, codes) if finding.kind not in expected]
    findings += _odd_vectors(rows)
    splits = {code: Counter(row.split for row in own) for code, own in _by_class(rows, codes).items()}
    counts = {split: {code: own[split] for code, own in splits.items()} for split in SPLITS}
    audio, text = sum(row.path is not None for row in rows), sum(bool(row.metadata.fields) for row in rows)
    return CorpusCheck(len(rows), counts, audio, text, findings)


def check_rows(rows: Sequence[Row], codes: Sequence[str]) -> list[Finding]:
    """Finds what can be told without opening a file."""
    return [*_duplicates(rows, codes), *_artists_in_two_splits(rows), *_rare_classes(rows, codes)]


def refuse_leaks(rows: Sequence[Row], codes: Sequence[str], kinds: Collection[str] = FATAL) -> list[Finding]:
    """Finds what is odd about rows to train on. Raises CorpusError if validation would measure what training has seen."""
    findings = check_rows(rows, codes)
    for finding in findings:
        if finding.kind in kinds:
            raise CorpusError(str(finding))
    return findings


def _key(row: Row) -> object:
    """Returns the same key for rows of one track: the file, else the names; None for a title or lyrics alone."""
    if row.path is not None:
        return row.path
    if row.metadata.fields in ((), ("title",)):
        return None  # lyrics alone; and many songs have one title
    return tuple(artist_key(getattr(row.metadata, name)) for name in METADATA_FIELDS)


def _duplicates(rows: Sequence[Row], codes: Sequence[str]) -> Iterator[Finding]:
    seen: dict[object, Row] = {}
    for row in rows:
        key = _key(row)
        first = row if key is None else seen.setdefault(key, row)
        if first is row:
            continue
        again = f"the same track as {first.where}"
        if row.label != first.label:
            what = f"{again}, but labelled {codes[row.label]!r} and {codes[first.label]!r}"
            yield Finding("contradiction", row.where, what, "Find out which is right and drop the other row")
        elif row.split != first.split:
            what = f"{again}, in split {row.split} and {first.split}"
            yield Finding("track_in_two_splits", row.where, what, "Drop one of the rows")
        else:
            yield Finding("duplicate", row.where, again, "Drop one of the rows; it counts twice in training")


def _artists_in_two_splits(rows: Sequence[Row]) -> Iterator[Finding]:
    """Yields one finding for each artist and further split, at the first row of it."""
    seen: dict[str, dict[str, Row]] = {}
    for row in rows:
        if not (artist := artist_key(row.metadata.artist)):
            continue
        splits = seen.setdefault(artist, {})
        first = next(iter(splits.values()), row)
        if splits.setdefault(row.split, row) is row and first is not row:
            what = f"artist {row.metadata.artist!r} is in split {row.split}, and in {first.split} on {first.where}"
            remedy = "Keep every artist in one split: `lrid corpus split` does"
            yield Finding("artist_in_two_splits", row.where, what, remedy)


def _by_class(rows: Sequence[Row], codes: Sequence[str]) -> dict[str, list[Row]]:
    """Sorts rows by class; a row that was read without labels is of all its tags."""
    found: dict[str, list[Row]] = {code: [] for code in codes}
    for row in rows:
        for code in tags_of(row.cells) if row.label < 0 else [codes[row.label]]:
            if code in found:
                found[code].append(row)
    return found


def _rare_classes(rows: Sequence[Row], codes: Sequence[str]) -> Iterator[Finding]:
    for code, own in _by_class(rows, codes).items():
        trained = [row for row in own if row.split == "train"]
        if len(trained) == 1:
            what = f"the only row to train class {code!r}"
            yield Finding("class_with_one_item", trained[0].where, what, "Add rows of it, or map it to others")
        elif own and not trained:
            what = f"class {code!r} has {len(own)} rows in {own[0].split}, and none to train"
            yield Finding("class_never_trained", own[0].where, what, "Add some, map it to others, or split again")
        elif trained and trained[0].label < 0 and not any(row.split == "valid" for row in own):
            what = f"tag {code!r} has {len(trained)} rows to train, and none to validate"
            yield Finding("tag_never_validated", trained[0].where, what, "Add some, split again, or leave it out")


def _odd_vectors(rows: Sequence[Row]) -> Iterator[Finding]:
    """Compares the cells of a column that holds vectors with the first vector in it."""
    cells = [(name, cell) for row in rows for name, cell in row.cells.items() if VECTOR.fullmatch(cell)]
    fields = {name: VectorField(cell.count(",") + 1) for name, cell in reversed(cells)}
    for row in rows:
        for name, vector in fields.items():
            try:
                further_values({name: row.cells.get(name, "").encode() or None}, {name: vector})
            except InvalidOption as error:
                yield Finding("odd_vector", row.where, error.detail, "Correct the cell, or empty it")


def _audio_findings(rows: Sequence[Row], decode: Decode | None, jobs: int, progress: Progress) -> Iterator[Finding]:
    """Yields missing and unreadable files, and files with the same bytes under two names."""
    heard: dict[bytes, Row] = {}
    with ThreadPoolExecutor(jobs) as pool:  # decoders and hashes leave the interpreter's lock
        work = [(row, pool.submit(_listen, row, row.path, decode)) for row in rows if row.path is not None]
        for row, result in progress.each("decoding", work):
            found = result.result()
            if isinstance(found, Finding):
                yield found
            elif found and (first := heard.setdefault(found, row)).path != row.path:
                what = f"{row.path} holds the same bytes as {first.path} ({first.where})"
                kind = "contradiction" if first.label != row.label else "duplicate"
                kind = "track_in_two_splits" if first.split != row.split else kind
                yield Finding(kind, row.where, what, "Drop one of the rows")


def _listen(row: Row, path: Path, decode: Decode | None) -> bytes | Finding:
    """Returns the file's SHA-256 (b"" if it was not opened), or what is wrong with it."""
    if not path.is_file():
        return Finding("missing_audio", row.where, f"no file at {path}", "Correct the path, or drop the row")
    if decode is None:
        return b""
    try:
        decode(path)
        return hashlib.sha256(path.read_bytes()).digest()
    except Exception as error:  # a decoder may raise anything, and this is what is being looked for
        what = f"{path} cannot be decoded ({str(error).rstrip('.')})"
        return Finding("unreadable_audio", row.where, what, "Repair it, or drop the row")
