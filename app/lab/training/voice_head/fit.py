"""Fits the head of `lrid_voice`: languages, singing, names, stopping rule, thresholds. It takes minutes and no GPU.

Whatever is fitted to the outcome of an earlier step sees it as new songs would: each song is scored by a fit to the other
groups first (`held_out_scores`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import AUDIO, TEXT, FloatArray
from app.families.lrid_voice.identify import ROWS, SUNG, VoiceHead, WindowScores
from app.families.lrid_voice.manifest import IdentifyConfig
from app.lab.errors import TrainingError
from app.lab.training.voice_head.data import Songs, group_folds
from app.lab.training.voice_head.joint import (
    ears_by_evidence,
    fit_expert,
    fit_scale,
    fit_threshold,
    listen_to_all,
    readings_of,
)
from app.lab.training.voice_head.languages import fit_languages
from app.lab.training.voice_head.settings import HeadSettings
from app.lab.training.voice_head.sung import JOINED_WINDOWS, WindowTruth, boundary, fit_songs, fit_windows, window_truth


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
    experts, alone = {}, {}
    if TEXT in songs.readings:
        expert = fit_expert(songs, ears, TEXT, given.class_mix, settings)
        exponent, doubt = min(expert.exponent, settings.most_exponent), max(expert.doubt, settings.least_doubt)
        bounded = {"exponent": exponent, "doubt": doubt, "alone_exponent": given.alone_exponent}
        experts, alone = {TEXT: expert.model_copy(update=bounded)}, {TEXT: given.threshold}
    config = fitted.config.model_copy(update={"song_scale": song_scale, "sung": sung, "experts": experts})
    joint = FittedHead(config, fitted.tensors)
    thresholds = alone | _thresholds(joint.head(given.codes), songs, scores, settings)
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
    """Fits thresholds for `und`, by mode that has audio, on sung songs, listened to until listening stops."""
    found: dict[str, float] = {}
    for text in (False, True) if songs.readings else (False,):
        heard = listen_to_all(head, songs, scores, settings, text)
        modes = ["+".join(sorted([AUDIO, *(readings_of(songs, song) if text else ())])) for song in range(len(heard))]
        for mode in set(modes) - set(found):
            chosen = [song for song in np.flatnonzero(songs.known) if modes[song] == mode]
            if chosen:
                found[mode] = fit_threshold([heard[song] for song in chosen], songs.labels[chosen], settings)
    return found
