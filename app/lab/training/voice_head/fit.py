"""Fits the head of `lrid_voice`: languages, singing, names, stopping rule, thresholds. It takes minutes and no GPU.

Whatever is fitted to the outcome of an earlier step sees it as new songs would: each song is scored by a fit to the other
groups first (`held_out_scores`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from app.domain import AUDIO, TEXT, FloatArray, Scores
from app.families.lrid_voice.identify import ROWS, SUNG, VoiceHead, WindowScores, log, pooled, testimony
from app.families.lrid_voice.manifest import ExpertConfig, IdentifyConfig
from app.families.parts.probabilities import softmax
from app.lab.errors import TrainingError
from app.lab.training.voice_head.data import Ints, Songs, group_folds, planned
from app.lab.training.voice_head.languages import fit_languages
from app.lab.training.voice_head.settings import HeadSettings
from app.lab.training.voice_head.sung import JOINED_WINDOWS, WindowTruth, boundary, fit_songs, fit_windows, window_truth

UNREACHABLE = 0.99  # the threshold where the wanted precision is not reached
SCALES = 0.2, 3.0  # bounds of what the mean log-probabilities of windows are multiplied by
N_MISMATCHED = 3  # foreign names beside each song
BEGINNING = np.array([0.75, 1.0, -3.0])  # of an expert: exponent, mix_exponent, logit of the doubt


@dataclass(frozen=True, slots=True)
class Given:
    """Holds what the head builds on: the languages of the listener, and what a reader's training knows of its posterior."""

    rows: FloatArray  # (n_tokens, n_hidden)
    languages: Sequence[str]  # (n_tokens,) the listener's codes
    class_mix: Mapping[str, float]  # of the reader, by class in the release's order
    alone_exponent: float = 1.0  # 1 / the reader's temperature, where that is not applied yet
    threshold: float = 0.5  # for `und`, on the reader's posterior alone

    @property
    def codes(self) -> list[str]:
        return list(self.class_mix)


@dataclass(frozen=True, slots=True)
class FittedHead:
    """Holds what goes into manifest and weights."""

    config: IdentifyConfig
    tensors: Mapping[str, FloatArray]

    def head(self, codes: Sequence[str]) -> VoiceHead:
        return VoiceHead(self.config, codes, self.tensors)


def fit_head(songs: Songs, given: Given, settings: HeadSettings) -> FittedHead:
    """Fits all parts of a head. Raises TrainingError if there are too few groups."""
    if len(np.unique(songs.groups)) < settings.inner_folds:
        raise TrainingError(f"the head needs songs of at least {settings.inner_folds} artists or sources; fit fewer folds")
    fitted, truth = _fit_windows(songs, given, settings)
    scores = held_out_scores(songs, given, settings)
    shift = boundary(scores.sung_logits, truth)
    scores = WindowScores(scores.log_probabilities, scores.weights, scores.sung_logits - np.float32(shift))
    song_scale = fit_scale(songs, ears_by_evidence(songs, scores, 1.0, settings))
    sung = fit_songs(songs, scores, truth.edges, song_scale, settings)
    sung = sung.model_copy(update={"window_bias": fitted.config.sung.window_bias - shift})
    ears = ears_by_evidence(songs, scores, song_scale, settings)
    expert = fit_names(songs, ears, given.class_mix, settings)
    exponent, doubt = min(expert.exponent, settings.most_exponent), max(expert.doubt, settings.least_doubt)
    names = expert.model_copy(update={"exponent": exponent, "doubt": doubt, "alone_exponent": given.alone_exponent})
    config = fitted.config.model_copy(update={"song_scale": song_scale, "sung": sung, "experts": {TEXT: names}})
    joint = FittedHead(config, fitted.tensors)
    thresholds = {TEXT: given.threshold} | _thresholds(joint.head(given.codes), songs, scores, settings)
    return FittedHead(config.model_copy(update={"thresholds": thresholds}), fitted.tensors)


def held_out_scores(songs: Songs, given: Given, settings: HeadSettings) -> WindowScores:
    """Scores all windows, each by a fit to other groups; the bias of the sung logits is not set yet."""
    folds = group_folds(songs, settings.inner_folds, settings.seed)
    folds[~songs.sung] = np.arange((~songs.sung).sum()) % settings.inner_folds  # often one group: tracks are held out
    found = np.zeros((len(songs.hidden), len(given.codes)), np.float32)
    weights, sung = np.zeros(len(found), np.float32), np.zeros(len(found), np.float32)
    for fold in np.unique(folds):
        fitted, _ = _fit_windows(songs.subset(np.flatnonzero(folds != fold)), given, settings)
        held = np.flatnonzero((folds == fold)[songs.owner])
        scores = fitted.head(given.codes).windows(songs.hidden[held])
        found[held], weights[held], sung[held] = scores.log_probabilities, scores.weights, scores.sung_logits
    return WindowScores(found, weights, sung)


def _fit_windows(songs: Songs, given: Given, settings: HeadSettings) -> tuple[FittedHead, WindowTruth]:
    """Fits what concerns windows; nothing about songs is fitted yet."""
    config, rows = fit_languages(songs, given.rows, given.languages, given.codes, settings)
    zeros = np.zeros(given.rows.shape[1], np.float32)
    unsung = FittedHead(config, {ROWS: rows, SUNG: zeros})
    truth = window_truth(songs, unsung.head(given.codes).windows(songs.hidden).log_probabilities, settings)
    if songs.sung.all() and len(truth.edges) < JOINED_WINDOWS:
        raise TrainingError("too few windows without singing: give instrumentals, or more songs of two minutes and more")
    weights, bias = fit_windows(songs, truth, settings)
    config = config.model_copy(update={"sung": config.sung.model_copy(update={"window_bias": bias})})
    return FittedHead(config, {ROWS: rows, SUNG: weights}), truth


def _thresholds(head: VoiceHead, songs: Songs, scores: WindowScores, settings: HeadSettings) -> dict[str, float]:
    """Fits thresholds for `und` on sung songs, listened to until listening stops: by audio, and with names.

    Where no song has names, the threshold of audio counts beside them too.
    """
    found, first = dict[str, float](), songs.first
    for mode, named in ((AUDIO, False), (f"{AUDIO}+{TEXT}", True)):
        chosen = [song for song in np.flatnonzero(songs.known).tolist() if songs.readings(song) or not named]
        heard = []
        for song in chosen:
            order = first[song] + planned(int(songs.counts[song]), settings.positions)
            heard.append(listen(head, scores, order, songs.readings(song) if named else {}))
        found[mode] = fit_threshold(heard, songs.labels[chosen], settings) if chosen else found[AUDIO]
    return found


def listen(head: VoiceHead, scores: WindowScores, order: Ints, readings: Mapping[str, FloatArray]) -> Scores:
    """Listens to windows in `order`, places in `scores`, until it is enough."""
    for windows in range(1, len(order) + 1):
        heard = head.join(scores[order[:windows]], readings)
        if heard.enough:
            break
    return heard


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


def fit_names(songs: Songs, ears: FloatArray, class_mix: Mapping[str, float], settings: HeadSettings) -> ExpertConfig:
    """Fits the trust in names. `ears`: (n_songs, k, n_classes) held-out log-posteriors after different numbers of windows.

    Songs count with their own text and, less, with that of songs in other languages, so that the doubt is learnt too.
    """
    rows = songs.names
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
    """Returns the mean negative log-likelihood of (n, k, n_classes) and (n, n_classes) logits."""
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
