"""Fits what concerns whole songs: how much names count, when to stop listening, and when to answer `und`."""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from app.domain import FloatArray, Scores
from app.families.lrid_voice.identify import VoiceHead, WindowScores, log, pooled, testimony
from app.families.lrid_voice.manifest import ExpertConfig
from app.families.parts.probabilities import softmax
from app.lab.training.voice_head.data import Ints, Songs, planned
from app.lab.training.voice_head.settings import HeadSettings

UNREACHABLE = 0.99  # the threshold where the wanted precision is not reached
SCALES = 0.2, 3.0  # bounds of what the mean log-probabilities of windows are multiplied by
N_MISMATCHED = 3  # foreign names beside each song
BEGINNING = np.array([0.75, 1.0, -3.0])  # of an expert: exponent, mix_exponent, logit of the doubt


def listen(head: VoiceHead, scores: WindowScores, order: Ints, readings: Mapping[str, FloatArray]) -> Scores:
    """Listens to windows in `order` until it is enough; `scores`: of a song's windows in order of time."""
    for windows in range(1, len(order) + 1):
        heard = head.join(scores[order[:windows]], readings)
        if heard.enough:
            break
    return heard


def listen_to_all(head: VoiceHead, songs: Songs, scores: WindowScores, settings: HeadSettings, text: bool) -> list[Scores]:
    """Listens to every song by its planned windows; with its readings or without."""
    first = songs.first
    heard = []
    for song, count in enumerate(songs.counts.tolist()):
        windows = scores[slice(first[song], first[song] + count)]
        readings = readings_of(songs, song) if text else {}
        heard.append(listen(head, windows, planned(count, settings.positions), readings))
    return heard


def readings_of(songs: Songs, song: int) -> dict[str, FloatArray]:
    """Returns posteriors of one song by modality; missing ones are left out."""
    return {name: rows[song] for name, rows in songs.readings.items() if np.isfinite(rows[song]).all()}


def fit_threshold(answers: list[Scores], labels: Ints, settings: HeadSettings) -> float:
    """Finds the least threshold for which what is answered is as precise as wanted.

    Precision is estimated as the mean of two: the share of right answers, which hangs on few wrong ones, and the mean
    probability, which moves less with the choice of songs but may be off by the calibration error.
    """
    probabilities = np.stack([answer.probabilities for answer in answers])
    best = probabilities.max(axis=1)
    order = np.argsort(-best, kind="stable")
    right = probabilities.argmax(axis=1) == labels
    precision = np.cumsum((right + best)[order] / 2) / np.arange(1, len(best) + 1)
    good = np.flatnonzero(precision >= settings.wanted_precision)
    return round(float(best[order][good[-1]]), 4) if len(good) else UNREACHABLE


def fit_expert(
    songs: Songs, ears: FloatArray, name: str, class_mix: Mapping[str, float], settings: HeadSettings
) -> ExpertConfig:
    """`ears`: (n_songs, k, n_classes) held-out log-posteriors after different numbers of windows; `class_mix`: by class.

    Songs count with their own text and, less, with that of songs in other languages, so that the doubt is learnt too.
    """
    rows = songs.readings[name]
    chosen = np.flatnonzero(songs.known & np.isfinite(rows).all(axis=1))
    foreign = _foreign(songs.labels, chosen, settings)
    log_mix = np.log(np.array(list(class_mix.values()), np.float32))

    def expert(parameters: FloatArray) -> ExpertConfig:
        exponent, mix_exponent = np.clip(parameters[:2], 0.0, [2.0, 1.0])  # a mix is divided out once at most
        doubt = 1 / (1 + np.exp(-np.clip(parameters[2], -7, 0)))
        return ExpertConfig(
            exponent=float(exponent), mix_exponent=float(mix_exponent), doubt=float(doubt), class_mix=dict(class_mix)
        )

    if not len(chosen):
        return expert(BEGINNING)

    def loss(parameters: FloatArray) -> float:
        config = expert(parameters)
        own = _loss(ears[chosen], testimony(rows[chosen], log_mix, config), songs.labels[chosen])
        others = [_loss(ears[chosen], testimony(rows[of], log_mix, config), songs.labels[chosen]) for of in foreign]
        share = settings.mismatched_share if others else 0.0
        prior = 0.01 * float(np.square(parameters - BEGINNING) @ [1.0, 1.0, 0.1])
        return (1 - share) * own + share * float(np.mean(others or [0.0])) + prior

    found = minimize(loss, BEGINNING, method="Nelder-Mead", options={"maxiter": 150, "xatol": 0.01})
    return expert(found.x)


def ears_by_evidence(songs: Songs, scores: WindowScores, song_scale: float, settings: HeadSettings) -> FloatArray:
    """Returns (n_songs, k, n_classes) log-posteriors of the ears after each number of windows of the partial evidence."""
    by_song = []
    for first, count in zip(songs.first.tolist(), songs.counts.tolist(), strict=True):
        order = first + planned(count, settings.positions)
        partial = [pooled(scores[order[:size]]) * song_scale for size in settings.partial_evidence]
        by_song.append(log(softmax(np.stack(partial))))
    return np.stack(by_song)


def fit_scale(songs: Songs, ears: FloatArray) -> float:
    """Finds what held-out log-posteriors, (n_songs, k, n_classes) with a scale of 1, are best multiplied by."""
    known = np.flatnonzero(songs.known)
    silent = np.zeros((len(known), ears.shape[2]), np.float32)
    scaled = ears[known]
    found = minimize_scalar(
        lambda scale: _loss(scaled * np.float32(scale), silent, songs.labels[known]), bounds=SCALES, method="bounded"
    )
    return float(found.x)


def _loss(ears: FloatArray, words: FloatArray, labels: Ints) -> float:
    """Mean negative log-likelihood of (n, k, n_classes) and (n, n_classes) logits."""
    joined = log(softmax(ears + words[:, None]))
    return -float(joined[np.arange(len(labels)), :, labels].mean())


def _foreign(labels: Ints, chosen: Ints, settings: HeadSettings) -> list[Ints]:
    """Draws songs in other languages for each chosen one; none where all are in one language."""
    if len(np.unique(labels[chosen])) < 2:
        return []
    random = np.random.default_rng(settings.seed)
    return [
        np.array([random.choice(chosen[labels[chosen] != labels[song]]) for song in chosen]) for _ in range(N_MISMATCHED)
    ]
