"""Measures a head on songs of groups that it was not fitted to, each held out once, for a release's card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import AUDIO, MULTIPLE, NOTHING_SUNG, FloatArray, Language, Scores
from app.families.lrid_voice.identify import VoiceHead, language_task
from app.families.tasks import View
from app.lab import markdown as md
from app.lab.evaluation.metrics import expected_calibration_error
from app.lab.progress import QUIET, Progress
from app.lab.training.voice_head.data import SPEECH, Ints, Songs, group_folds, planned
from app.lab.training.voice_head.fit import Given, fit_head, listen
from app.lab.training.voice_head.settings import HeadSettings

UNTIL_SURE = "audio, until sure"
HEADS = ("", "songs", "accuracy", "balanced", "windows", "ECE", "answered", "right of these", "zxx", "mul")


@dataclass(frozen=True, slots=True)
class Answer:
    """Holds what a head says of one song."""

    probabilities: FloatArray  # (n_classes,)
    decision: str  # a class, or `und`, `zxx`, `mul`
    windows: int  # listened to


HeldOutSong = dict[str, Answer]  # by case, through a head that was fitted to other groups; some cases need names


def cross_validate(
    songs: Songs, given: Given, settings: HeadSettings, n_folds: int = 6, progress: Progress = QUIET
) -> list[HeldOutSong]:
    """Answers every song by a head fitted to other groups, its thresholds included."""
    folds = group_folds(songs, n_folds, settings.seed + 1)
    random = np.random.default_rng(settings.seed)
    found: dict[int, HeldOutSong] = {}
    for fold in progress.each("cross-validating", range(n_folds)):
        fitted = fit_head(songs.subset(np.flatnonzero(folds != fold)), given, settings)
        head = fitted.head(given.codes)
        for song in np.flatnonzero(folds == fold):
            others = np.flatnonzero(songs.known & (songs.labels != songs.labels[song]))
            found[int(song)] = held_out_song(head, songs, int(song), int(random.choice(others)), settings)
    return [found[song] for song in range(len(songs.labels))]


def held_out_song(head: VoiceHead, songs: Songs, song: int, foreign: int, settings: HeadSettings) -> HeldOutSong:
    """Answers one song in every case; `foreign`: the song whose names are given as well."""
    scores = head.windows(songs.windows(song))
    order = planned(int(songs.counts[song]), settings.positions)
    own, strange = songs.readings(song), songs.readings(foreign)

    def until_sure(readings: Mapping[str, FloatArray]) -> Answer:
        return answer(head, listen(head, scores, order, readings), {AUDIO, *readings})

    ears = until_sure({})
    found = {UNTIL_SURE: ears, "audio, whole songs": answer(head, head.join(scores, {}), {AUDIO})}
    if own:
        found["audio, of the songs that have names"] = ears
        found["names"] = answer(head, head.join(None, own), set(own))
        found["both"] = until_sure(own)
        if strange:
            found["audio with the names of a song in another language"] = until_sure(strange)
    return found


def answer(head: VoiceHead, scores: Scores, modalities: set[str]) -> Answer:
    """Decides by the head's own thresholds."""
    task = language_task([Language(code, None, code) for code in head.codes], head.config)
    decision = task.answer(scores, frozenset(modalities), View())["language"]
    return Answer(scores.probabilities, decision, len(scores.windows))


def tables(held: Sequence[HeldOutSong], songs: Songs, codes: Sequence[str]) -> str:
    """Writes figures by case, of songs in which nothing is sung, and by language."""
    rows = []
    for case in dict.fromkeys(case for song in held for case in song):  # they come in this order in every song
        answered = [song for song in np.flatnonzero(songs.known).tolist() if case in held[song]]
        if answered:
            rows.append((case, *figures([held[song][case] for song in answered], songs.labels[answered], codes)))
    parts = [md.table(HEADS, rows), _nothing_sung(held, songs), _languages(held, songs, codes)]
    return "\n\n".join(part for part in parts if part)


def figures(answers: Sequence[Answer], labels: Ints, codes: Sequence[str]) -> list[object]:
    """Measures the cells after the first of HEADS. Labels are classes; accuracy is that of the best class."""
    probabilities = np.stack([one.probabilities for one in answers])
    right = probabilities.argmax(axis=1) == labels
    decisions = np.array([one.decision for one in answers])
    answered = np.isin(decisions, codes)
    return [
        len(answers),
        float(right.mean()),
        float(np.mean([right[labels == label].mean() for label in np.unique(labels)])),
        f"{np.mean([one.windows for one in answers]):.2f}",
        expected_calibration_error(labels, probabilities, bins=10),
        float(answered.mean()),
        float(right[answered].mean()) if answered.any() else 0.0,
        float((decisions == NOTHING_SUNG).mean()),
        float((decisions == MULTIPLE).mean()),
    ]


def _nothing_sung(held: Sequence[HeldOutSong], songs: Songs) -> str:
    kinds = (("Instrumentals", np.flatnonzero(~songs.sung)), ("Clips of speech", np.flatnonzero(songs.labels == SPEECH)))
    told = []
    for name, chosen in kinds:
        if len(chosen):
            share = np.mean([held[song][UNTIL_SURE].decision == NOTHING_SUNG for song in chosen.tolist()])
            told.append(f"{name} answered `{NOTHING_SUNG}`: {share:.3f} of {len(chosen)}.")
    return " ".join(told)


def _languages(held: Sequence[HeldOutSong], songs: Songs, codes: Sequence[str]) -> str:
    rows = []
    for label in np.unique(songs.labels[songs.known]):
        chosen = np.flatnonzero(songs.labels == label)
        right = np.mean([held[song][UNTIL_SURE].probabilities.argmax() == label for song in chosen.tolist()])
        rows.append((codes[label], len(chosen), f"{right:.2f}"))
    return md.table(["language", "songs", "right by audio"], rows)
