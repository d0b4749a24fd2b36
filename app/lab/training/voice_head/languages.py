"""Fits biases, scales, the weight of unsure windows and what corrects the languages' rows to partial evidence, by L-BFGS."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from app.domain import FloatArray
from app.families.lrid_voice.manifest import IdentifyConfig, LanguageToken, SungConfig
from app.lab.evaluation.metrics import Float64
from app.lab.training.voice_head.data import Ints, Songs, planned
from app.lab.training.voice_head.settings import HeadSettings, class_label, prior_biases

N_STEPS = 25
LEAST_SPREAD = 1e-3  # of a feature over the windows
BEGINNINGS = torch.tensor([1.0, 1.5, 1.0], dtype=torch.float64)  # window_scale, entropy_weight, song_scale


@dataclass(frozen=True, slots=True)
class Draws:
    """Holds sets of windows, each of one song."""

    windows: Ints  # (n,) windows, one draw after the other
    draw: Ints  # (n,) the draw of each
    labels: Tensor  # (n_draws,) the class of the song of each draw
    weights: Tensor  # (n_draws,) that sum to 1: every song counts once, but songs of a large group less


@dataclass(frozen=True, slots=True)
class Standard:
    """Holds features that have mean 0 and spread 1 over the windows of songs in which something is sung."""

    values: Tensor  # (n_windows, n_hidden)
    centre: Tensor  # (n_hidden,) that was subtracted
    spread: Tensor  # (n_hidden,) that they were divided by


def song_logits(logits: Tensor, draws: Draws, member: Tensor, biases: Tensor, numbers: Tensor) -> Tensor:
    """Turns (n_windows, n_tokens) logits into (n_draws, n_classes). The same as `VoiceHead.windows` and `pooled`.

    `member`: (n_tokens, n_classes), 1 where a token counts for a class; `numbers`: window_scale, entropy_weight, song_scale.
    """
    by_token = torch.softmax((logits + biases) * numbers[0], dim=1)
    by_class = torch.clamp(by_token @ member, min=1e-8)  # (n_windows, n_classes)
    logs = by_class.log()
    weights = torch.exp(numbers[1] * (by_class * logs).sum(dim=1))[draws.windows, None]
    draw, size = torch.from_numpy(draws.draw), len(draws.labels)
    total = logs.new_zeros(size, logs.shape[1]).index_add(0, draw, weights * logs[draws.windows])
    mean = total / logs.new_zeros(size, 1).index_add(0, draw, weights)
    scaled: Tensor = mean * numbers[2]
    return scaled


def fit_languages(
    songs: Songs, rows: FloatArray, languages: Sequence[str], codes: Sequence[str], settings: HeadSettings
) -> tuple[IdentifyConfig, FloatArray]:
    """Fits biases, scales and corrections of `rows`, (n_tokens, n_hidden) of the listener, which are returned corrected.

    Leaves out songs in which nothing is sung. Biases and rows of languages without songs stay: they could only fall, and
    the language would not be heard again. Tokens of one class share a correction, drawn to zero for features of unit spread.
    """
    labels = [class_label(language, codes) for language in languages]
    learnt = {codes[label] for label in songs.labels[songs.known]}
    free = torch.tensor([float(label in learnt) for label in labels], dtype=torch.float64)
    member = torch.tensor([[float(label == code) for code in codes] for label in labels], dtype=torch.float64)
    prior = torch.tensor(prior_biases(languages, labels, settings), dtype=torch.float64)
    draws, standard = draw_windows(songs, settings), standardised(songs)
    logits = torch.from_numpy(songs.hidden @ rows.T).double()
    share = free[:, None] * member  # (n_tokens, n_classes)

    def loss(correction: Tensor, turned: Tensor, logs: Tensor) -> Tensor:  # turned: of each class's rows; logs: of numbers
        moved = free * correction
        corrected = logits + standard.values @ turned @ share.T
        found = song_logits(corrected, draws, member, prior + moved, logs.exp() * BEGINNINGS)
        losses = nn.functional.cross_entropy(found, draws.labels, reduction="none")
        penalty = settings.bias_l2 * (moved.square().sum() + logs.square().sum()) + settings.row_l2 * turned.square().sum()
        return losses @ draws.weights + penalty / int(songs.known.sum())

    correction, turned, logs = _minimum(loss, prior.shape, (rows.shape[1], len(codes)), BEGINNINGS.shape)
    by_token = share @ (turned.T / standard.spread)  # (n_tokens, n_hidden)
    biases = (prior + free * correction - by_token @ standard.centre).float().tolist()
    config = _config(zip(languages, labels, biases, strict=True), logs.exp() * BEGINNINGS, settings)
    return config, rows + by_token.float().numpy()


def _config(tokens: Iterable[tuple[str, str, float]], numbers: Tensor, settings: HeadSettings) -> IdentifyConfig:
    """Makes the configuration of windows; `tokens`: code, class and bias; `numbers`: those of BEGINNINGS."""
    window_scale, entropy_weight, song_scale = numbers.tolist()
    return IdentifyConfig(
        tokens=[LanguageToken(code=code, label=label, bias=round(bias, 4)) for code, label, bias in tokens],
        window_scale=window_scale,
        entropy_weight=entropy_weight,
        song_scale=song_scale,
        stop_bound=settings.stop_bound,
        stop_bound_read=settings.stop_bound_read,
        sung=SungConfig(window_bias=0.0, song_scale=1.0, confidence_scale=0.0, song_bias=0.0),
        several=settings.several,
        thresholds={},
    )


def _minimum(loss: Callable[..., Tensor], *shapes: Sequence[int]) -> list[Tensor]:
    """Finds where the loss is least, from zeros on; float64."""
    parameters = [torch.zeros(tuple(shape), dtype=torch.float64, requires_grad=True) for shape in shapes]
    optimiser = torch.optim.LBFGS(parameters, max_iter=N_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        value = loss(*parameters)
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return [parameter.detach() for parameter in parameters]


def draw_windows(songs: Songs, settings: HeadSettings) -> Draws:
    """Draws each song by few windows about where they are listened to, by more, and by all."""
    random = np.random.default_rng(settings.seed)
    sets: list[Ints] = []
    owners: list[int] = []
    for song in np.flatnonzero(songs.known):
        count = int(songs.counts[song])
        sizes = [size for size in settings.partial_evidence if size <= max(count, 1)]
        drawn = [_jittered(count, size, settings, random) for size in sizes for _ in range(settings.draws)]
        drawn += [np.arange(count)] * settings.draws
        sets += [songs.first[song] + windows for windows in drawn]
        owners += [int(song)] * len(drawn)
    draw = np.repeat(np.arange(len(sets)), [len(windows) for windows in sets])
    of = np.array(owners, np.int64)
    labels, weights = torch.from_numpy(songs.labels[of]), torch.from_numpy(_weights(songs, of, settings))
    return Draws(np.concatenate(sets), draw.astype(np.int64), labels, weights)


def standardised(songs: Songs) -> Standard:
    """Standardises the features of all windows."""
    hidden = torch.from_numpy(songs.hidden).double()
    sung = hidden[torch.from_numpy(songs.known[songs.owner])]
    centre, spread = sung.mean(dim=0), sung.std(dim=0) + LEAST_SPREAD
    return Standard((hidden - centre) / spread, centre, spread)


def _jittered(count: int, size: int, settings: HeadSettings, random: np.random.Generator) -> Ints:
    wanted = np.array(settings.positions[:size])
    moved = wanted + random.uniform(-settings.position_jitter, settings.position_jitter, len(wanted))
    return planned(count, np.clip(moved, 0.02, 0.98).tolist())


def _weights(songs: Songs, drawn: Ints, settings: HeadSettings) -> Float64:
    """Weighs draws, (n_draws,): of a song together 1, but less in a large group; then all together 1."""
    of_group = np.bincount(songs.groups[songs.known], minlength=songs.groups.max() + 1).astype(float)
    weights = of_group[songs.groups[drawn]] ** -settings.group_power
    weights /= np.bincount(drawn, minlength=len(songs.labels))[drawn]
    return np.asarray(weights / weights.sum())
