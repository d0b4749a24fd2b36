"""`lrid corpus split` splits rows as the paper does (§4.1): 80:20, stratified, no artist in both."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.lab.corpus.catalogue import ARTIST, LANGUAGE, SPLITS, artist_key, check_columns, label_columns, label_of
from app.lab.corpus.tables import Record, check_output, read_table, write_table
from app.lab.corpus.tags import SEPARATOR
from app.lab.errors import CorpusError

Counts = dict[str, dict[str, int]]  # rows by split and label


@dataclass(frozen=True, slots=True)
class Made:
    """Says what became of a data set's tracks."""

    counts: Counts
    left_out: str
    split: str


def split_corpus(
    catalogue: Path,
    output: Path,
    *,
    valid_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    column: str = LANGUAGE,
    force: bool = False,
) -> Counts:
    """Writes rows with a new `split`; those of `test` stay. Artists as `column` are in every split. Raises CorpusError."""
    check_output(output, force=force)
    table = read_table(catalogue)
    check_columns(table, label_columns(column))
    if unlabelled := [where for where, record in table.records.items() if not label_of(record, column)]:
        raise CorpusError(f"{catalogue.name}, {unlabelled[0]}: no label. Label it, or drop the row")
    records = list(table.records.values())
    if not records:
        raise CorpusError(f"{catalogue} holds no rows; a catalogue needs a header and one row a track")
    open_rows = [record for record in records if record.get("split", "").strip() != "test"]
    if column == ARTIST:
        assign_songs(open_rows, valid_share, test_share, seed)
    elif test_share:
        raise CorpusError("a share of test rows is split off where artists are the classes only: use --column artist")
    else:
        _check_test(catalogue, records, open_rows)
        assign(open_rows, valid_share, seed, column)
    write_table(output, list(dict.fromkeys([*table.columns, "split"])), [moved(one, catalogue, output) for one in records])
    return count(records, column)


def assign(records: Sequence[Record], valid_share: float, seed: int, column: str = LANGUAGE) -> None:
    """Sets `split` of each record: to valid in the fold of scikit-learn's StratifiedGroupKFold whose classes come nearest
    to their share of the rows, to train in the others. Raises CorpusError if there are too few artists or rows.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError as error:
        raise CorpusError("Splitting needs scikit-learn: python -m pip install -e '.[train]'") from error
    groups = [_group(i, record) for i, record in enumerate(records)]
    n_folds, wanted = round(1 / valid_share), f"{1 - valid_share:.0%}:{valid_share:.0%}"
    if len(set(groups)) < n_folds:
        raise CorpusError(f"{len(set(groups))} artists cannot be split {wanted}; add rows, or split by hand")
    codes = np.unique([label_of(record, column) for record in records], return_inverse=True)[1]
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds: the report shows it
            found = [fold for _, fold in folds.split(codes, codes, groups)]
    except ValueError as error:  # every class has fewer rows than there are folds
        raise CorpusError(f"too few rows to split {wanted} ({error}); add rows, or split by hand") from error
    parts = [np.bincount(codes[fold], minlength=codes.max() + 1) / np.bincount(codes) for fold in found]  # of each class
    valid = set(min(zip(found, parts, strict=True), key=lambda pair: np.abs(pair[1] - valid_share).sum())[0].tolist())
    for i, record in enumerate(records):
        record["split"] = "valid" if i in valid else "train"


def assign_songs(records: Sequence[Record], valid_share: float, test_share: float, seed: int) -> None:
    """Sets `split` of each record; each artist has one song or more in train, and its share of the others."""
    rng = np.random.default_rng(seed)
    by_artist: dict[str, list[Record]] = {}
    for i in rng.permutation(len(records)).tolist():
        by_artist.setdefault(artist_key(records[i].get(ARTIST)), []).append(records[i])
        records[i]["split"] = "train"
    rest = [record for own in by_artist.values() for record in own[1:]]
    held_out = valid_share + test_share
    picked = _spread(rest, held_out * len(records) / max(1, len(rest)))
    for record in picked:
        record["split"] = "valid"
    for record in _spread(picked, test_share / held_out):
        record["split"] = "test"


def _spread(records: Sequence[Record], share: float) -> list[Record]:
    """Picks a share of the records, evenly spread: every tenth for a share of .1."""
    steps = np.floor(np.arange(len(records) + 1) * share + 1e-9)
    return [records[i] for i in np.flatnonzero(np.diff(steps)).tolist()]


def _group(number: int, record: Record) -> str:
    """Names the rows that have to stay together: an artist's; without one, those of one file."""
    artist = artist_key(record.get("artist"))
    if artist:
        return f"artist {artist}"
    return f"path {record['path']}" if record.get("path") else f"row {number}"


def _check_test(catalogue: Path, records: Sequence[Record], open_rows: Sequence[Record]) -> None:
    """Raises CorpusError if an artist of the test rows has others too."""
    ours = {artist_key(record.get("artist")) for record in open_rows} - {""}
    for record in records:
        if record.get("split", "").strip() == "test" and artist_key(record.get("artist")) in ours:
            raise CorpusError(
                f"{catalogue.name}: artist {record['artist']!r} is in split test and in another; rows of test stay where "
                "they are: move the others there too, or empty the column split"
            )


def moved(record: Record, catalogue: Path, output: Path) -> Record:
    """Changes a record's relative path so that it holds from the folder of another catalogue."""
    given = record.get("path", "").strip()
    if not given or Path(given).is_absolute() or catalogue.parent.resolve() == output.parent.resolve():
        return record
    return record | {"path": os.path.relpath(catalogue.parent.resolve() / given, output.parent.resolve())}


def count(records: Iterable[Record], column: str = LANGUAGE) -> Counts:
    """Counts rows of each label, the most frequent first; a cell of tags holds several."""
    pairs = Counter((record["split"], label) for record in records for label in label_of(record, column).split(SEPARATOR))
    labels = Counter(label for _, label in pairs.elements())
    splits = [split for split in SPLITS if any(s == split for s, _ in pairs)]
    return {split: {label: pairs[split, label] for label, _ in labels.most_common()} for split in splits}
