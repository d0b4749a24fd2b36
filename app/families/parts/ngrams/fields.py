"""Texts of metadata taken apart: rows of the n-gram table, langdetect's evidence, shares of scripts.

The same code reads in training and in serving.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.parts.ngrams.config import NgramConfig, Script
from app.families.parts.ngrams.loops import (
    CODE_BITS,
    NOT_KNOWN,
    SLOT_BITS,
    IndexArray,
    Owners,
    Spelled,
    Tables,
    explain,
    fill_slots,
    take_apart,
)
from app.families.parts.ngrams.spelling import bounded, code_points, normalised, word_hashes
from app.families.parts.profiles import Profiles, cleaned, langdetect_languages


@dataclass(frozen=True, slots=True)
class FieldRead:
    """One field of metadata, taken apart."""

    buckets: IndexArray  # (k,) rows of the table
    evidence: FloatArray  # (n_languages,) sum of logarithms
    n_known: float  # number of n-grams in that sum
    scripts: FloatArray  # (n_scripts,)


class FieldReader:
    """Texts → numbers. Nothing in it is learnt; nothing changes after construction."""

    def __init__(self, config: NgramConfig) -> None:
        """Raises ReleaseError if langdetect has other languages than the manifest."""
        installed = langdetect_languages()
        if tuple(config.languages) != installed:
            raise ReleaseError(f"text languages should be langdetect's {list(installed)}, but are {config.languages}")
        self.config = config
        self._explanations = Explanations(config.languages, config.smoothing)
        self.tables: Tables = (
            self._explanations.keys,
            self._explanations.rows,
            self._explanations.logarithms,
            owners(config.scripts),
            config.max_ngram,
            32 - config.buckets_log2,
        )

    def normalised(self, text: str | None) -> str:
        """A field as a client sent it, or None → the characters that are read."""
        return normalised(text, self.config.max_characters) if text else ""

    def spelled(self, texts: Sequence[str]) -> Spelled:
        """Normalised texts as code points, and where each begins: all texts bounded, then all as the profiles see them;
        and the hashes of their words.
        """
        both = [*map(bounded, texts), *map(self._explanations.spelled, texts)]
        return (*code_points(both), *word_hashes(texts))

    def __call__(self, text: str | None) -> FieldRead:
        plain = self.normalised(text)
        scripts = np.zeros(len(self.config.scripts), np.float32)
        evidence = np.zeros(len(self.config.languages), np.float32)
        if not plain:
            return FieldRead(np.zeros(0, np.int64), evidence, 0.0, scripts)
        buckets, n_known = take_apart(self.spelled([plain]), 0, self.tables, evidence, scripts)
        return FieldRead(buckets, evidence, float(n_known), scripts)

    def explained(self, text: str, max_characters: int) -> tuple[FloatArray, int]:
        """A text of any length → (n_languages,) the sum of the logarithms of its known n-grams, and their number."""
        codes, _ = code_points([self._explanations.spelled(normalised(text, max_characters))])
        evidence = np.zeros(len(self.config.languages), np.float32)
        keys, rows, logarithms, *_ = self.tables
        return evidence, explain(codes, keys, rows, logarithms, evidence)


def has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))


class Explanations:
    """langdetect's profiles, every n-gram of a text counted: nothing is drawn at random, nothing is left out.

    Nothing but its arrays is needed to explain a text; see `explain`.
    """

    def __init__(self, languages: Sequence[str], smoothing: float) -> None:
        profiles = Profiles(languages)
        self.logarithms = np.log(profiles.probabilities + smoothing).astype(np.float32)
        self.keys = np.full(1 << SLOT_BITS, NOT_KNOWN, np.int64)  # of n-grams, by their hash
        self.rows = np.zeros(1 << SLOT_BITS, np.int32)  # of `logarithms`
        fill_slots(self.keys, self.rows, ngram_keys(profiles.known))
        self._normal = profiles.normal

    def spelled(self, text: str) -> str:
        """A normalised text as langdetect's profiles see it, with the spaces that go before.

        It has no capitals, so langdetect's rules for them do not matter. (Circled ones have no small form, but no
        profile knows them.)
        """
        return "  " + cleaned(text).translate(self._normal)


def ngram_keys(ngrams: Iterable[str]) -> IndexArray:
    """(n,), a number for each of these n-grams of up to three characters, as `explain` makes it."""
    keys = []
    for ngram in ngrams:
        key = 0
        for char in ngram:
            key = key << CODE_BITS | ord(char) + 1
        keys.append(key)
    return np.array(keys, np.int64)


def owners(scripts: Sequence[Script]) -> Owners:
    """The script of each code point, as far as the last that has one; what is of none has `len(scripts)`."""
    last = max(high for script in scripts for _, high in script.ranges)
    owner = np.full(last + 1, len(scripts), np.uint8)
    for i, script in enumerate(scripts):
        for low, high in script.ranges:
            owner[low : high + 1] = i
    return owner
