"""Makes songs that a head is fitted to: what the listener heard of them, their names read, grouped by artist."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain import NOTHING_SUNG, TEXT, FloatArray, Metadata, Reading
from app.families.parts.names import clean
from app.lab.corpus.catalogue import Row, artist_key, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.corpus.tables import read_table
from app.lab.errors import CorpusError, TrainingError
from app.lab.evaluation.answers import REST
from app.lab.progress import Progress
from app.lab.training.voice_head.settings import class_label

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Read = Callable[[Metadata], Reading]
NOTHING = -1  # the label of a recording in which nothing is sung
SPEECH = -2  # of one in which somebody speaks or sings, and no language is learnt from it

LOUD_SUFFIXES = {".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".webm"}


@dataclass(frozen=True, slots=True)
class Songs:
    """Holds n songs with their windows in order of time."""

    hidden: FloatArray  # (n_windows, n_hidden)
    counts: Ints  # (n,) windows of each song; they stand one song after the other
    labels: Ints  # (n,) classes, NOTHING or SPEECH
    groups: Ints  # (n,) artist or source: never on both sides of a split
    names: FloatArray  # (n, n_classes) the reader's posteriors; NaN where it was given none

    @property
    def first(self) -> Ints:
        """(n,) index of the first window of each song."""
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)

    @property
    def owner(self) -> Ints:
        """(n_windows,) the song of each window."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def sung(self) -> Bools:
        """(n,) False where nothing is sung or spoken."""
        return np.asarray(self.labels != NOTHING)

    @property
    def known(self) -> Bools:
        """(n,) True where something is sung and the language is to be learnt."""
        return np.asarray(self.labels >= 0)

    def windows(self, song: int) -> FloatArray:
        """(counts[song], n_hidden) of one song."""
        first = int(self.first[song])
        return self.hidden[first : first + int(self.counts[song])]

    def subset(self, songs: Ints) -> "Songs":
        """Picks some of the songs, in the given order."""
        first = self.first
        windows = np.concatenate([first[song] + np.arange(self.counts[song]) for song in songs])
        return Songs(self.hidden[windows], self.counts[songs], self.labels[songs], self.groups[songs], self.names[songs])

    def readings(self, song: int) -> dict[str, FloatArray]:
        """Returns what was read of one song, by modality; nothing where its names say nothing."""
        return {TEXT: self.names[song]} if np.isfinite(self.names[song]).all() else {}


def planned(n_windows: int, positions: Sequence[float]) -> Ints:
    """Orders a song's windows as they are listened to: those nearest to `positions`, shares of its length; each once."""
    chosen: list[int] = []
    for position in positions[:n_windows]:
        wanted = min(int(position * n_windows), n_windows - 1)
        free = [window for window in range(n_windows) if window not in chosen]
        chosen.append(min(free, key=lambda window: (abs(window - wanted), -window)))
    return np.array(chosen, np.int64)


def group_folds(songs: Songs, n_folds: int, seed: int) -> Ints:
    """Assigns a fold to each song, (n,): whole groups, languages spread evenly, large groups first."""
    random = np.random.default_rng(seed)
    speech = songs.labels == SPEECH
    groups = random.permutation(np.unique(songs.groups[~speech]))
    groups = groups[np.argsort([-(songs.groups == group).sum() for group in groups], kind="stable")]
    held = np.zeros((n_folds, songs.labels.max() + 2))
    folds = np.zeros(len(songs.labels), np.int64)
    for group in groups:
        inside = songs.groups == group
        labels = np.bincount(songs.labels[inside] + 1, minlength=held.shape[1])
        cost = [(held[fold] @ (labels > 0), held[fold].sum(), random.random()) for fold in range(n_folds)]
        fold = min(range(n_folds), key=cost.__getitem__)
        folds[inside] = fold
        held[fold] += labels
    speakers = np.unique(songs.groups[speech])
    folds[speech] = (random.permutation(len(speakers)) % n_folds)[np.searchsorted(speakers, songs.groups[speech])]
    return folds


def read_heard(folder: Path, codes: Sequence[str], read: Read | None = None) -> Songs:
    """Reads index.csv and windows.npz, and with `read` the names. Raises TrainingError.

    Languages that are no class count as `others`; an artist in parentheses is a description, and such names are not read.
    """
    try:
        rows = list(read_table(folder / "index.csv").records.values())
        hidden = np.load(folder / "windows.npz")["hidden"].astype(np.float32)
        counts = np.array([int(row["windows"]) for row in rows], np.int64)
        languages = [row["language"] for row in rows]
        labels = [NOTHING if one == NOTHING_SUNG else codes.index(class_label(one, codes)) for one in languages]
        groups = [row["group"] for row in rows]
    except (OSError, KeyError, ValueError, CorpusError) as error:
        raise TrainingError(f"{folder}: cached features cannot be read: {error!r}") from error
    if counts.sum() != len(hidden):
        raise TrainingError(f"{folder}: index.csv counts {counts.sum()} windows, windows.npz holds {len(hidden)}")
    names = [Metadata(row.get("artist") or None, None, row.get("title") or None) for row in rows]
    names = [Metadata() if (one.artist or "").startswith("(") else one for one in names]
    return Songs(
        hidden,
        counts,
        np.array(labels, np.int64),
        np.unique(groups, return_inverse=True)[1].astype(np.int64),
        _posteriors(names, read, len(codes)),
    )


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
    """Collects songs; `features`: (n_windows, at least n_hidden) of each row. Rows in which nothing sounds are left out."""
    heard = [(row, own[:, :n_hidden]) for row, own in zip(rows, features, strict=True) if len(own)]
    if not heard:
        raise CorpusError("all recordings of the catalogue are silent")
    labels = [NOTHING if row.label == len(codes) else row.label for row, _ in heard]
    # songs without an artist are of one group with what lies in the same folder
    groups = [artist_key(row.metadata.artist) or str(row.path and row.path.parent) for row, _ in heard]
    return Songs(
        np.concatenate([own for _, own in heard]),
        np.array([len(own) for _, own in heard], np.int64),
        np.array(labels, np.int64),
        np.unique(groups, return_inverse=True)[1].astype(np.int64),
        _posteriors([row.metadata for row, _ in heard], read, len(codes)),
    )


def _posteriors(names: Sequence[Metadata], read: Read | None, n_classes: int) -> FloatArray:
    """Reads names: (n, n_classes); NaN where they say nothing."""
    found = np.full((len(names), n_classes), np.nan, np.float32)
    for row, metadata in enumerate(names):
        reading = read(clean(metadata)) if read and metadata.fields else None
        if reading is not None and reading.informative:
            found[row] = reading.vector
    return found


def clips_of(folder: Path, most: int) -> list[Row]:
    """Finds so many clips at most, of all speakers (`artist`) of index.csv, or of all folders. Raises CorpusError."""
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
    return replace(
        songs,
        hidden=np.concatenate([songs.hidden, *(own for _, own in heard)]),
        counts=np.concatenate([songs.counts, np.ones(n, np.int64)]),
        labels=np.concatenate([songs.labels, np.full(n, SPEECH, np.int64)]),
        groups=np.concatenate([songs.groups, groups]).astype(np.int64),
        names=np.concatenate([songs.names, np.full((n, songs.names.shape[1]), np.nan, np.float32)]),
    )
