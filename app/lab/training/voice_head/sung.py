"""Tells whether anything is sung: by a linear classifier of windows, and a logistic regression for songs.

Instrumentals to learn from are few, and often of one kind. The first and last windows of songs are mostly instrumental as
well and come from all kinds of music: those of which the ears are unsure count as windows in which nothing is sung.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from app.domain import FloatArray
from app.families.lrid_voice.identify import WindowScores, mean_odds, pooled
from app.families.lrid_voice.manifest import SungConfig
from app.families.parts.probabilities import softmax
from app.lab.training.voice_head.data import SPEECH, Bools, Ints, Songs, planned
from app.lab.training.voice_head.settings import HeadSettings

LEAST_EDGE_WINDOWS = 12  # shorter recordings may begin and end with singing
N_EDGE = 1, 2  # first, last windows; the last is padded
JOINED_WINDOWS = 8
PENALTY_OF_SONGS = 1.0  # scikit-learn's C


@dataclass(frozen=True, slots=True)
class WindowTruth:
    """Holds windows of which it is known, or believed, whether something is sung."""

    sung: Ints
    nothing: Ints
    edges: Ints  # the part of `nothing` that comes from songs


def window_truth(songs: Songs, log_probabilities: FloatArray, settings: HeadSettings) -> WindowTruth:
    """Picks windows to learn from; `log_probabilities`: (n_windows, n_classes)."""
    owner, labels = songs.owner, songs.labels[songs.owner]
    instrumental = ~songs.sung[owner]
    speech = labels == SPEECH
    of_label = np.exp(log_probabilities[np.arange(len(owner)), labels])
    unsure = (log_probabilities.max(axis=1) < np.log(settings.unsure_edge)) & (log_probabilities.argmax(axis=1) != labels)
    edges = _edges(songs) & unsure & ~instrumental & ~speech
    sung = speech | ~instrumental & (of_label > 0.6)
    return WindowTruth(np.flatnonzero(sung), np.flatnonzero(instrumental | edges), np.flatnonzero(edges))


def fit_windows(songs: Songs, truth: WindowTruth, settings: HeadSettings) -> tuple[FloatArray, float]:
    """Fits ridge logistic regression on standardised features; both sides weigh the same.

    Returns weights (n_hidden,) and bias: in a window with `features @ weights + bias` over 0 something is sung.
    """
    rows = np.concatenate([truth.sung, truth.nothing])
    mean, deviation = songs.hidden[rows].mean(axis=0), songs.hidden[rows].std(axis=0) + 1e-3
    model = LogisticRegression(C=settings.sung_penalty, max_iter=1000)
    sung = np.arange(len(rows)) < len(truth.sung)
    model.fit((songs.hidden[rows] - mean) / deviation, sung, _weights(songs, songs.owner[rows], sung, settings))
    weights = (model.coef_[0] / deviation).astype(np.float32)
    return weights, float(model.intercept_[0] - mean @ weights)


def boundary(logits: FloatArray, truth: WindowTruth) -> float:
    """Finds the logit between 95 of 100 windows without singing and 95 of 100 with: the zero of held-out logits."""
    return float(np.quantile(logits[truth.nothing], 0.95) + np.quantile(logits[truth.sung], 0.05)) / 2


def fit_songs(songs: Songs, scores: WindowScores, edges: Ints, scale: float, settings: HeadSettings) -> SungConfig:
    """Fits what tells whether a song is sung. `scores`: held-out scores of all windows; `scale`: `song_scale` of the head.

    Fitted to the first four planned windows, to all planned windows and to whole songs; instrumentals made of edges of
    different songs stand beside the real ones. Both sides weigh the same; their shares in a catalogue shift the bias.
    """
    sets: list[Ints] = []
    for first, count in zip(songs.first.tolist(), songs.counts.tolist(), strict=True):
        plan = planned(count, settings.positions)
        sets += [first + plan[:4], first + plan, first + np.arange(count)]
    sung = [bool(songs.sung[songs.owner[windows[0]]]) for windows in sets]
    random = np.random.default_rng(settings.seed)
    if len(edges) >= JOINED_WINDOWS:
        joined = [random.choice(edges, JOINED_WINDOWS, replace=False) for _ in range(settings.joined_instrumentals)]
        sets, sung = sets + joined, sung + [False] * len(joined)
    some = [scores[windows] for windows in sets]
    evidence = np.array([(mean_odds(s.sung_logits), float(softmax(pooled(s) * scale).max())) for s in some])
    owners = np.array([songs.owner[windows[0]] for windows in sets])
    weights = _weights(songs, owners, np.array(sung), settings)
    model = LogisticRegression(C=PENALTY_OF_SONGS, max_iter=1000).fit(evidence, sung, weights)
    odds, confidence = (max(float(value), 1e-3) for value in model.coef_[0])
    bias = float(model.intercept_[0] + np.log(1 / settings.instrumental_share - 1))
    return SungConfig(window_bias=0.0, song_scale=odds, confidence_scale=confidence, song_bias=bias)


def _weights(songs: Songs, owners: Ints, sung: Bools, settings: HeadSettings) -> FloatArray:
    """Returns (n,) for n examples of these songs: both sides weigh n / 2, speech a stated share of the sung side."""
    speech = songs.labels[owners] == SPEECH
    weights = np.ones(len(owners), np.float32)
    share = settings.speech_share if speech.any() else 0.0
    for side, part in ((~sung, 1.0), (sung & ~speech, 1.0 - share), (speech, share)):
        weights[side] = part * len(owners) / 2 / max(side.sum(), 1)
    return weights


def _edges(songs: Songs) -> Bools:
    owner = songs.owner
    place = np.arange(len(owner)) - songs.first[owner]
    count = songs.counts[owner]
    return ((place < N_EDGE[0]) | (place >= count - N_EDGE[1])) & (count >= LEAST_EDGE_WINDOWS)
