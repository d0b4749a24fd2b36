"""Holds what the listener heard of songs: features of consecutive windows, to which the head is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain import NOTHING_SUNG, FloatArray
from app.lab.corpus.tables import read_table
from app.lab.errors import CorpusError, TrainingError
from app.lab.training.voice_head.settings import class_label

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NOTHING = -1  # the label of a recording in which nothing is sung
SPEECH = -2  # of one in which somebody speaks or sings, and no language is learnt from it


@dataclass(frozen=True, slots=True)
class Songs:
    """Holds n songs with their windows in order of time."""

    hidden: FloatArray  # (n_windows, n_hidden)
    counts: Ints  # (n,) windows of each song; they stand one song after the other
    labels: Ints  # (n,) classes, NOTHING or SPEECH
    groups: Ints  # (n,) artist or source: never on both sides of a split
    readings: Mapping[str, FloatArray] = field(default_factory=dict)  # (n, n_classes) posteriors; NaN where there is none

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

    def subset(self, songs: Ints) -> "Songs":
        """Picks some of the songs, in the given order."""
        first = self.first
        windows = np.concatenate([first[song] + np.arange(self.counts[song]) for song in songs])
        readings = {name: posterior[songs] for name, posterior in self.readings.items()}
        return Songs(self.hidden[windows], self.counts[songs], self.labels[songs], self.groups[songs], readings)


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


def read_heard(folder: Path, codes: Sequence[str]) -> Songs:
    """Reads index.csv and windows.npz. Languages that are no class count as `others`. Raises TrainingError."""
    try:
        rows = list(read_table(folder / "index.csv").records.values())
        hidden = np.load(folder / "windows.npz")["hidden"].astype(np.float32)
        counts = np.array([int(row["windows"]) for row in rows], np.int64)
        languages = [row["language"] for row in rows]
        labels = [NOTHING if one == NOTHING_SUNG else codes.index(class_label(one, codes)) for one in languages]
        artists = [row["group"] for row in rows]
    except (OSError, KeyError, ValueError, CorpusError) as error:
        raise TrainingError(f"{folder}: cached features cannot be read: {error!r}") from error
    if counts.sum() != len(hidden):
        raise TrainingError(f"{folder}: index.csv counts {counts.sum()} windows, windows.npz holds {len(hidden)}")
    return Songs(hidden, counts, np.array(labels, np.int64), np.unique(artists, return_inverse=True)[1].astype(np.int64))
