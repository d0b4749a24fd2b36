"""Defines settings of the fit. Defaults are those of `lrid_voice/3`, chosen by cross-validation over groups."""

from collections.abc import Sequence

from pydantic import Field

from app.families.contract import Probability, Strict
from app.families.lrid_voice.manifest import SeveralConfig
from app.lab.labels import WORLD_ALIASES

_COMMON = "en es pt fr de it nl sv da no fi pl cs uk ru ro hu el tr ar he fa hi ta te vi th id ja ko zh"
# What catalogues are full of; everything else is a rare guess unless songs say otherwise.
COMMON_LANGUAGES = tuple(_COMMON.split())


class HeadSettings(Strict):
    """Regularises strongly and has few parameters: the songs are few and lean to few kinds of music."""

    positions: tuple[float, ...] = (0.2, 0.45, 0.7, 0.3, 0.6, 0.12, 0.8, 0.38)  # shares of a song, in order of listening
    position_jitter: float = 0.06  # of a song's length, in the draws that the languages are fitted to
    partial_evidence: tuple[int, ...] = (1, 2, 3, 4, 8)  # windows of a draw; beside all of them
    draws: int = Field(2, ge=1)  # of each number of windows, for each song
    prior_class: float = -0.5  # nats: languages that are a class, but not common
    prior_rare: float = -4.0  # nats: languages that are no class
    bias_l2: float = Field(1.5, gt=0)  # towards the prior, over the number of songs
    row_l2: float = Field(300.0, gt=0)  # on the corrections of the languages' rows, likewise
    group_power: float = Field(0.5, ge=0)  # a song weighs (songs of its group) ** -group_power
    sung_penalty: float = Field(1e-3, gt=0)  # scikit-learn's C of the window classifier on standardised features
    unsure_edge: Probability = 0.6  # first and last windows under this best probability count as "nothing sung"
    joined_instrumentals: int = Field(60, ge=0)  # made of such windows of different songs
    mismatched_share: Probability = 0.2  # weight of songs with the name of a song in another language
    most_exponent: float = Field(0.5, gt=0)  # of names beside the ears; what is fitted costs a point with foreign names
    least_doubt: Probability = 0.02
    speech_share: Probability = 0.25  # of the weight of what is sung, for clips of speech
    instrumental_share: float = Field(0.13, gt=0, lt=1)  # of a catalogue, expected
    stop_bound: Probability = 0.95  # chosen by cross-validation: more windows gain nothing
    stop_bound_read: Probability = 0.98  # where names were read: with less they end listening too early
    wanted_precision: Probability = 0.96  # of what is answered, over all classes
    several: SeveralConfig = SeveralConfig(sure=0.9, least_share=0.2, least_windows=2)
    inner_folds: int = Field(5, ge=2)
    seed: int = 0


def class_label(language: str, codes: Sequence[str]) -> str:
    """Returns the class that a language of the listener counts for."""
    label = WORLD_ALIASES.get(language, language)
    return label if label in codes else "others"


def prior_biases(languages: Sequence[str], labels: Sequence[str], settings: HeadSettings) -> list[float]:
    """Returns (n_tokens,) nats: what the biases are drawn to; `labels`: the class of each language."""
    by_class = [settings.prior_rare if label == "others" else settings.prior_class for label in labels]
    return [0.0 if code in COMMON_LANGUAGES else bias for code, bias in zip(languages, by_class, strict=True)]
