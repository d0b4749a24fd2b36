"""How well a head does on songs of groups that it was not fitted to: every group is held out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from app.domain import FloatArray
from app.families.lrid_voice.identify import NOTHING_SUNG, SEVERAL, Combined, VoiceHead, WindowScores
from app.lab.evaluation.metrics import expected_calibration_error
from app.lab.training.voice_head.data import Bools, Ints, Songs, group_folds, planned
from app.lab.training.voice_head.fit import Listener, ReaderFacts, fit_head
from app.lab.training.voice_head.joint import Listened, listen, readings_of
from app.lab.training.voice_head.settings import HeadSettings

BOUNDS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99)  # of the stopping rule, in the curve
LONGEST_PART = 8  # windows of each song in a synthetic song in two languages


@dataclass(frozen=True, slots=True)
class HeldOutSong:
    """One song through a head that was fitted to other groups."""

    ears: Listened
    both: Listened | None  # with its own names
    foreign: Listened | None  # with names of a song in another language
    whole: Combined  # by ears, all windows
    whole_both: Combined | None
    names: Combined | None
    bound: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Answers of n sung songs; `answered`, `right_answered`, `nothing` and `several` are shares by decision."""

    accuracy: float
    balanced: float  # mean over classes
    windows: float  # mean number
    calibration_error: float
    answered: float
    right_answered: float  # of the answered
    nothing: float
    several: float


def cross_validate(
    songs: Songs, listener: Listener, readers: Mapping[str, ReaderFacts], settings: HeadSettings, n_folds: int = 6
) -> list[HeldOutSong]:
    """Every song by a head fitted to other groups, its bound and thresholds included."""
    folds = group_folds(songs, n_folds, settings.seed + 1)
    random = np.random.default_rng(settings.seed)
    found: dict[int, HeldOutSong] = {}
    for fold in range(n_folds):
        fitted = fit_head(songs.subset(np.flatnonzero(folds != fold)), listener, readers, settings)
        head = fitted.head(listener.codes)
        for song in np.flatnonzero(folds == fold):
            others = np.flatnonzero(songs.sung & (songs.labels != songs.labels[song]))
            found[int(song)] = held_out_song(head, songs, int(song), int(random.choice(others)), settings)
    return [found[song] for song in range(len(songs.labels))]


def held_out_song(head: VoiceHead, songs: Songs, song: int, foreign: int, settings: HeadSettings) -> HeldOutSong:
    """`foreign`: the song whose names are given as well."""
    scores = head.windows(song_windows(songs, song))
    order = planned(int(songs.counts[song]), settings.positions)
    own, strange = readings_of(songs, song), readings_of(songs, foreign)
    return HeldOutSong(
        ears=listen(head, scores, order, {}),
        both=listen(head, scores, order, own) if own else None,
        foreign=listen(head, scores, order, strange) if strange else None,
        whole=head.join(scores, {}),
        whole_both=head.join(scores, own) if own else None,
        names=head.join(None, own) if own else None,
        bound=head.config.stop_bound,
    )


def song_windows(songs: Songs, song: int) -> FloatArray:
    """(n, n_hidden) of one song."""
    first = int(songs.first[song])
    return songs.hidden[first : first + int(songs.counts[song])]


def figures(answers: list[Combined], windows: list[int], labels: Ints, codes: tuple[str, ...]) -> Figures:
    """Labels are classes. Accuracy is that of the best class, whatever was decided."""
    probabilities = np.stack([answer.probabilities for answer in answers])
    right = probabilities.argmax(axis=1) == labels
    decisions = np.array([answer.decision for answer in answers])
    answered: Bools = np.isin(decisions, codes)
    return Figures(
        accuracy=float(right.mean()),
        balanced=float(np.mean([right[labels == label].mean() for label in np.unique(labels)])),
        windows=float(np.mean(windows)),
        calibration_error=expected_calibration_error(labels, probabilities, bins=10),
        answered=float(answered.mean()),
        right_answered=float(right[answered].mean()) if answered.any() else 0.0,
        nothing=float((decisions == NOTHING_SUNG).mean()),
        several=float((decisions == SEVERAL).mean()),
    )


def curve(held: list[HeldOutSong], labels: Ints, codes: tuple[str, ...]) -> dict[float, Figures]:
    """Figures of sung songs by the bound at which listening stops."""
    found = {}
    for bound in BOUNDS:
        answers = [song.ears.answer(bound) for song in held]
        found[bound] = figures(answers, [song.ears.stopped(bound) for song in held], labels, codes)
    return found


def grouped(answers: list[Combined], member: FloatArray) -> list[Combined]:
    """The same answers over fewer classes; `member`: (n_classes, n_fewer) of 0 and 1. Decisions stay as they are."""
    return [replace(answer, probabilities=(answer.probabilities @ member).astype(np.float32)) for answer in answers]


def two_languages(songs: Songs, n: int, seed: int) -> list[FloatArray]:
    """Synthetic songs in two languages: windows from the middle of two songs of different classes, half and half."""
    random = np.random.default_rng(seed)
    long = np.flatnonzero(songs.sung & (songs.counts >= 2 * LONGEST_PART))
    found: list[FloatArray] = []
    while len(found) < n:
        one, other = random.choice(long, 2, replace=False)
        if songs.labels[one] != songs.labels[other]:
            found.append(np.concatenate([_middle(songs, int(one)), _middle(songs, int(other))]))
    return found


def _middle(songs: Songs, song: int) -> FloatArray:
    windows = song_windows(songs, song)
    start = (len(windows) - LONGEST_PART) // 2
    return windows[start : start + LONGEST_PART]


def share_of(decision: str, scored: list[WindowScores], head: VoiceHead) -> float:
    """Share of recordings, listened to from end to end, that are answered so."""
    return float(np.mean([head.join(scores, {}).decision == decision for scores in scored]))
