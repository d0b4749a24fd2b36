"""Makes songs that a head is fitted to: recordings listened to from end to end, their names read, grouped by artist."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from app.domain import NOTHING_SUNG, TEXT, FloatArray, Metadata, Reading
from app.families.parts.names import clean
from app.lab.corpus.catalogue import Row, artist_key, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.corpus.tables import read_table
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import REST
from app.lab.progress import Progress
from app.lab.training.voice_head.data import NOTHING, SPEECH, Songs

Read = Callable[[Metadata], Reading]
LOUD_SUFFIXES = {".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".webm"}


def song_rows(catalogue: Path, codes: Sequence[str], progress: Progress, splits: Sequence[str] = ("train",)) -> list[Row]:
    """Reads rows with audio of these splits; label len(codes): nothing is sung. Raises CorpusError naming the row."""
    rows = read_catalogue(catalogue, [*codes, NOTHING_SUNG], rest=REST if REST in codes else None)
    for finding in refuse_leaks(rows, [*codes, NOTHING_SUNG]):
        if finding.kind != "class_never_trained":
            progress.say(f"{catalogue.name}, {finding}")
    heard = [row for row in rows if row.split in splits and row.path is not None]
    if not heard:
        raise CorpusError(f"{catalogue}: no row of split {', '.join(splits)} has audio")
    return heard


def songs_of(rows: Sequence[Row], features: Sequence[FloatArray], codes: Sequence[str], n_hidden: int, read: Read) -> Songs:
    """`features`: (n_windows, at least n_hidden) of each row; rows in which nothing sounds are left out."""
    heard = [(row, own[:, :n_hidden]) for row, own in zip(rows, features, strict=True) if len(own)]
    if not heard:
        raise CorpusError("all recordings of the catalogue are silent")
    labels = [NOTHING if row.label == len(codes) else row.label for row, _ in heard]
    groups = [_group(row) for row, _ in heard]
    return Songs(
        np.concatenate([own for _, own in heard]),
        np.array([len(own) for _, own in heard], np.int64),
        np.array(labels, np.int64),
        np.unique(groups, return_inverse=True)[1].astype(np.int64),
        readings([row.metadata for row, _ in heard], read, len(codes)),
    )


def _group(row: Row) -> str:
    """Songs without an artist are of one group with what lies in the same folder."""
    return artist_key(row.metadata.artist) or str(row.path and row.path.parent)


def readings(names: Sequence[Metadata], read: Read, n_classes: int) -> dict[str, FloatArray]:
    """Reads names: by modality, (n, n_classes) posteriors; NaN where they say nothing. Empty if that is so everywhere."""
    posteriors = np.full((len(names), n_classes), np.nan, np.float32)
    for row, metadata in enumerate(names):
        reading = read(clean(metadata)) if metadata.fields else None
        if reading is not None and reading.informative:
            posteriors[row] = reading.vector
    return {TEXT: posteriors} if np.isfinite(posteriors).any() else {}


def names_of(folder: Path) -> list[Metadata]:
    """Reads names in the `index.csv` of cached features; none where the artist is only described, in parentheses."""
    rows = read_table(folder / "index.csv").records.values()
    names = [Metadata(row.get("artist") or None, None, row.get("title") or None) for row in rows]
    return [Metadata() if (one.artist or "").startswith("(") else one for one in names]


def clips_of(folder: Path, most: int) -> list[Row]:
    """Up to so many clips, of as many speakers (`artist`) as index.csv names, or folders there are. Raises CorpusError."""
    by_speaker: dict[str, list[Row]] = {}
    for number, (path, speaker) in enumerate(sorted(_clips(folder)), start=1):
        clip = Row(f"recording {number}", path, Metadata(artist=speaker), 0, "train", "")
        by_speaker.setdefault(speaker, []).append(clip)
    if not by_speaker:
        raise CorpusError(f"{folder}: no recordings of speech; expected files such as .ogg or .wav, or an index.csv")
    turns = zip_longest(*by_speaker.values())
    return [clip for turn in turns for clip in turn if clip is not None][:most]


def _clips(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yields recordings and who speaks."""
    index = folder / "index.csv"
    if not index.is_file():
        found = (path for path in folder.rglob("*") if path.suffix.lower() in LOUD_SUFFIXES)
        yield from ((path, str(path.parent)) for path in found)
        return
    for where, record in read_table(index).records.items():
        if not record.get("file"):
            raise CorpusError(f"{index}, {where}: no file; needs the columns file and speaker")
        yield folder / record["file"], " ".join(record.get(name, "") for name in ("source", "language", "speaker"))


def with_speech(songs: Songs, speakers: Sequence[str], features: Sequence[FloatArray]) -> Songs:
    """Adds clips of speech to songs; `features`: (1, at least n_hidden) of each clip, no row if it is silent."""
    heard = [(who, own[:1, : songs.hidden.shape[1]]) for who, own in zip(speakers, features, strict=True) if len(own)]
    n = len(heard)
    groups = np.unique([who for who, _ in heard], return_inverse=True)[1] + songs.groups.max() + 1
    unread = {name: np.full((n, own.shape[1]), np.nan, np.float32) for name, own in songs.readings.items()}
    return replace(
        songs,
        hidden=np.concatenate([songs.hidden, *(own for _, own in heard)]),
        counts=np.concatenate([songs.counts, np.ones(n, np.int64)]),
        labels=np.concatenate([songs.labels, np.full(n, SPEECH, np.int64)]),
        groups=np.concatenate([songs.groups, groups]).astype(np.int64),
        readings={name: np.concatenate([own, unread[name]]) for name, own in songs.readings.items()},
    )
