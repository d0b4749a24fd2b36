"""The settings of the reader that ships: its classes, their mixes, and how much its rows count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from app.families.lrid_net.profiles import langdetect_languages
from app.families.parts.ngrams.config import NgramConfig
from app.lab.labels import WORLD_ALIASES, WORLD_LABELS
from app.lab.training.recipes.reader import ReaderConfig
from app.lab.training.recipes.reader_rows import AugmentConfig, ReaderRow, Weights

CODES = tuple(label.code for label in WORLD_LABELS)
OTHERS = CODES.index("others")
CLEANEST = ("dali_v1", "eurovision", "junior_esc")  # sources with the surest labels

# Of the ten languages of the paper: between Music4All's mix and that of the cleanest rows. The tail shares TAIL of all.
COMMON = {
    "en": 0.56298, "pt": 0.08399, "es": 0.07802, "fr": 0.05926, "de": 0.05004, "it": 0.03645, "pl": 0.03035, "sv": 0.02043,
    "ja": 0.00325, "ko": 0.00325,
}  # fmt: skip
TAIL = 0.15
TAIL_WEIGHTS = (  # 1 for the rest
    dict.fromkeys(("nl", "zh", "ru", "hi", "tr", "others"), 3.0)
    | dict.fromkeys(("ar", "el", "fi", "da", "no", "ro", "he", "id", "vi", "th", "hu", "cs", "uk", "fa", "ta", "te"), 2.0)
    | dict.fromkeys(("af", "cy", "gl", "eu", "km", "kk", "gu", "ne", "ka", "hy", "az", "mr"), 0.5)
)
COMMON_IN_BATCHES = {
    "en": 0.45704, "pt": 0.13204, "es": 0.0895, "ko": 0.05333, "fr": 0.04969, "ja": 0.03908, "de": 0.03786, "pl": 0.03328,
    "it": 0.03294, "sv": 0.02395,
}  # fmt: skip
TAIL_IN_BATCHES = 0.35
MOST_ROWS = 4000  # of a class; more do not make it more frequent in the batches

STRENGTHS = {"strong-": 1.0, "strong": 4.0, "lyrics-langdetect": 2.0, "weak": 0.5, "script": 0.5, "phrase": 3.0}
SOURCE_WEIGHT = 3.0  # of the cleanest
LATIN_WEIGHT = 0.1  # of Japanese and Korean rows in Latin letters alone
OTHER_SCRIPT = (
    *("uk", "ru", "be", "bg", "mk", "kk", "el", "ka", "hy", "he", "ar", "fa", "ur"),
    *("bn", "si", "gu", "mr", "ne", "ml", "kn", "pa", "th", "km", "zh"),
)
LATIN_SHARE, RARE_LATIN_SHARE = 0.1, 0.005  # of these languages, and of Japanese and Korean


def class_of(language: str) -> int:
    """ISO 639-1 code → class."""
    code = WORLD_ALIASES.get(language, language)
    return CODES.index(code) if code in CODES else OTHERS


def answer_mix() -> dict[str, float]:
    """By class, in order; adds up to 1."""
    tail = {code: TAIL_WEIGHTS.get(code, 1.0) for code in CODES if code not in COMMON}
    common, rest = sum(COMMON.values()), sum(tail.values())
    mix = {c: (1 - TAIL) * COMMON[c] / common if c in COMMON else TAIL * tail[c] / rest for c in CODES}
    return {code: round(share, 6) for code, share in mix.items()}


def batch_mix(rows: Sequence[ReaderRow]) -> dict[str, float]:
    """Nearer to uniform: in the tail the root of the answers' share, times the fourth root of the rows there are."""
    counts = np.minimum(np.bincount([row.label for row in rows], minlength=len(CODES)), MOST_ROWS)
    tail = {c: share**0.5 * float(n) ** 0.25 for (c, share), n in zip(answer_mix().items(), counts, strict=True)}
    rest = sum(weight for code, weight in tail.items() if code not in COMMON)
    common = sum(COMMON_IN_BATCHES.values())
    mix = {
        code: (1 - TAIL_IN_BATCHES) * COMMON_IN_BATCHES[code] / common if code in COMMON else TAIL_IN_BATCHES * weight / rest
        for code, weight in tail.items()
    }
    return {code: share if n else 0.0 for (code, share), n in zip(mix.items(), counts, strict=True)}


def settings_for(rows: Sequence[ReaderRow], mix: Mapping[str, float] | None = None) -> ReaderConfig:
    """Of a training on these rows."""
    return ReaderConfig(
        read=NgramConfig(class_mix=dict(mix or answer_mix()), languages=list(langdetect_languages()), buckets_log2=17),
        codes=CODES,
        batch_mix=batch_mix(rows),
        latin_shares=dict.fromkeys(OTHER_SCRIPT, LATIN_SHARE) | dict.fromkeys(("ja", "ko"), RARE_LATIN_SHARE),
        weights=Weights(
            strengths=STRENGTHS,
            sources=dict.fromkeys(CLEANEST, SOURCE_WEIGHT),
            latin={CODES.index(code): LATIN_WEIGHT for code in ("ja", "ko")},
        ),
        augment=AugmentConfig(),
    )
