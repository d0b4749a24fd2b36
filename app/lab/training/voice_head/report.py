"""How well a head does on songs of groups that it was not fitted to: every group is held out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import AUDIO, MULTIPLE, NOTHING_SUNG, FloatArray, Language, Scores
from app.families.lrid_voice.identify import VoiceHead, language_task
from app.families.tasks import View
from app.lab.evaluation.metrics import expected_calibration_error
from app.lab.progress import Advance
from app.lab.training.voice_head.data import Bools, Ints, Songs, group_folds, planned
from app.lab.training.voice_head.fit import Listener, ReaderFacts, fit_head
from app.lab.training.voice_head.joint import Listened, listen, readings_of
from app.lab.training.voice_head.settings import HeadSettings

BOUNDS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99)  # of the stopping rule, in the curve


@dataclass(frozen=True, slots=True)
class Answer:
    """What a head says of one song."""

    probabilities: FloatArray  # (n_classes,)
    decision: str  # a class, or `und`, `zxx`, `mul`
    windows: int  # listened to


@dataclass(frozen=True, slots=True)
class HeldOutSong:
    """One song through a head that was fitted to other groups; None where there are no names."""

    ears: Answer  # until listening stops
    by_bound: tuple[Answer, ...]  # the same with each of BOUNDS
    whole: Answer  # by ears, all windows
    both: Answer | None  # with its own names, until listening stops
    foreign: Answer | None  # with names of a song in another language
    names: Answer | None


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
    songs: Songs,
    listener: Listener,
    readers: Mapping[str, ReaderFacts],
    settings: HeadSettings,
    n_folds: int = 6,
    advance: Advance = lambda n: None,
) -> list[HeldOutSong]:
    """Every song by a head fitted to other groups, its bound and thresholds included."""
    folds = group_folds(songs, n_folds, settings.seed + 1)
    random = np.random.default_rng(settings.seed)
    found: dict[int, HeldOutSong] = {}
    for fold in range(n_folds):
        fitted = fit_head(songs.subset(np.flatnonzero(folds != fold)), listener, readers, settings)
        head = fitted.head(listener.codes)
        for song in np.flatnonzero(folds == fold):
            others = np.flatnonzero(songs.known & (songs.labels != songs.labels[song]))
            found[int(song)] = held_out_song(head, songs, int(song), int(random.choice(others)), settings)
        advance(1)
    return [found[song] for song in range(len(songs.labels))]


def held_out_song(head: VoiceHead, songs: Songs, song: int, foreign: int, settings: HeadSettings) -> HeldOutSong:
    """`foreign`: the song whose names are given as well."""
    scores = head.windows(song_windows(songs, song))
    order = planned(int(songs.counts[song]), settings.positions)
    own, strange = readings_of(songs, song), readings_of(songs, foreign)

    def until_sure(readings: Mapping[str, FloatArray]) -> Answer:
        heard = listen(head, scores, order, readings)
        return answer(head, heard.answer, {AUDIO, *readings}, heard.windows)

    return HeldOutSong(
        ears=until_sure({}),
        by_bound=tuple(_with_bound(head, listen(head, scores, order, {}), bound) for bound in BOUNDS),
        whole=answer(head, head.join(scores, {}), {AUDIO}, len(scores.weights)),
        both=until_sure(own) if own else None,
        foreign=until_sure(strange) if strange else None,
        names=answer(head, head.join(None, own), set(own), 0) if own else None,
    )


def answer(head: VoiceHead, scores: Scores, modalities: set[str], windows: int) -> Answer:
    """With the decision of the head's own thresholds."""
    task = language_task([Language(code, None, code) for code in head.codes], head.config)
    decision = task.answer(scores, frozenset(modalities), View())["language"]
    return Answer(scores.probabilities, decision, windows)


def _with_bound(head: VoiceHead, heard: Listened, bound: float) -> Answer:
    """Ears alone, stopped at another bound than the head's."""
    least = head.config.sung.least_nothing
    sure = [one.probabilities.max() >= bound and one.unsung < least for one in heard.answers]
    place = sure.index(True) if True in sure else len(sure) - 1
    return answer(head, heard.answers[place], {AUDIO}, place + 1)


def song_windows(songs: Songs, song: int) -> FloatArray:
    """(n, n_hidden) of one song."""
    first = int(songs.first[song])
    return songs.hidden[first : first + int(songs.counts[song])]


def figures(answers: Sequence[Answer], labels: Ints, codes: Sequence[str]) -> Figures:
    """Labels are classes. Accuracy is that of the best class, whatever was decided."""
    probabilities = np.stack([one.probabilities for one in answers])
    right = probabilities.argmax(axis=1) == labels
    decisions = np.array([one.decision for one in answers])
    answered: Bools = np.isin(decisions, codes)
    return Figures(
        accuracy=float(right.mean()),
        balanced=float(np.mean([right[labels == label].mean() for label in np.unique(labels)])),
        windows=float(np.mean([one.windows for one in answers])),
        calibration_error=expected_calibration_error(labels, probabilities, bins=10),
        answered=float(answered.mean()),
        right_answered=float(right[answered].mean()) if answered.any() else 0.0,
        nothing=float((decisions == NOTHING_SUNG).mean()),
        several=float((decisions == MULTIPLE).mean()),
    )


def curve(held: Sequence[HeldOutSong], labels: Ints, codes: Sequence[str]) -> dict[float, Figures]:
    """Figures of sung songs by the bound at which listening stops."""
    return {bound: figures([song.by_bound[place] for song in held], labels, codes) for place, bound in enumerate(BOUNDS)}
