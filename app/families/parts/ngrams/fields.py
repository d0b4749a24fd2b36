"""Texts of metadata taken apart: rows of the n-gram table, langdetect's evidence, shares of scripts.

N-grams are hashed in the manner of fastText (Bojanowski et al. 2017), over code points: no vocabulary, nothing is ever
unknown. Hashes are 32-bit FNV-1a with a multiplicative finish, the same on every machine. Of langdetect's profiles every
n-gram of a text counts: nothing is drawn at random, nothing is left out. The same code reads in training and in serving.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from app.domain import FloatArray
from app.families.parts.ngrams import loops
from app.families.parts.ngrams.config import NgramConfig, Script
from app.families.parts.ngrams.loops import IndexArray
from app.families.parts.profiles import Profiles, cleaned

Laid = tuple[IndexArray, IndexArray]  # the numbers of several texts end to end, and where each begins, (n + 1,)

BEGIN, END = "\x02", "\x03"  # around a text: n-grams know where it begins and ends
WORD = re.compile(r"\w+")


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
        self.config = config
        profiles = Profiles(config.languages)
        self._normal = profiles.normal
        keys = np.full(1 << loops.SLOT_BITS, loops.NOT_KNOWN, np.int64)  # of n-grams, by their hash
        rows = np.zeros(1 << loops.SLOT_BITS, np.int32)  # of the logarithms
        loops.fill_slots(keys, rows, ngram_keys(profiles.rows))
        logarithms = np.log(profiles.probabilities + config.smoothing).astype(np.float32)
        owner, shift = owners(config.scripts), 32 - config.buckets_log2
        self.tables: loops.Tables = (keys, rows, logarithms, owner, config.max_ngram, shift)

    def normalised(self, text: str | None) -> str:
        """A field as a client sent it, or None → the characters that are read."""
        return normalised(text, self.config.max_characters) if text else ""

    def spelled(self, texts: Sequence[str]) -> loops.Spelled:
        """Normalised texts as code points: all bounded, then all as the profiles see them; and the hashes of their words."""
        both = [*(f"{BEGIN}{text}{END}" for text in texts), *map(self._as_profiled, texts)]
        return (*code_points(both), *word_hashes(texts))

    def __call__(self, text: str | None) -> FieldRead:
        plain = self.normalised(text)
        scripts = np.zeros(len(self.config.scripts), np.float32)
        evidence = np.zeros(len(self.config.languages), np.float32)
        if not plain:
            return FieldRead(np.zeros(0, np.int64), evidence, 0.0, scripts)
        buckets, n_known = loops.take_apart(self.spelled([plain]), 0, self.tables, evidence, scripts)
        return FieldRead(buckets, evidence, float(n_known), scripts)

    def explained(self, text: str, max_characters: int) -> tuple[FloatArray, int]:
        """A text of any length → (n_languages,) the sum of the logarithms of its known n-grams, and their number."""
        codes, _ = code_points([self._as_profiled(normalised(text, max_characters))])
        evidence = np.zeros(len(self.config.languages), np.float32)
        keys, rows, logarithms, *_ = self.tables
        return evidence, loops.explain(codes, keys, rows, logarithms, evidence)

    def _as_profiled(self, text: str) -> str:
        """A normalised text as langdetect's profiles see it. It has no capitals, so the rules for them do not matter."""
        return "  " + cleaned(text).translate(self._normal)


def has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))


def normalised(text: str, max_characters: int) -> str:
    """Compatibility forms composed, lower case, single spaces, cut: writing habits that say nothing of the language."""
    folded = unicodedata.normalize("NFKC", text[: 4 * max_characters]).lower()
    return " ".join(folded.split())[:max_characters]


def code_points(texts: Sequence[str]) -> Laid:
    """Code points of any strings, lone surrogates included."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    return codes, _starts(texts)


def word_hashes(texts: Sequence[str]) -> Laid:
    """32-bit hashes of the words of normalised texts."""
    by_text = [[zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in WORD.findall(text)] for text in texts]
    return np.array([crc for hashes in by_text for crc in hashes], np.int64), _starts(by_text)


def _starts(parts: Sequence[Sequence[object]]) -> IndexArray:
    return np.array([0, *accumulate([len(part) for part in parts])], np.int64)


def ngram_keys(ngrams: Iterable[str]) -> IndexArray:
    """(n,), a number for each of these n-grams of up to three characters, as `explain` makes it."""
    keys = []
    for ngram in ngrams:
        key = 0
        for char in ngram:
            key = key << loops.CODE_BITS | ord(char) + 1
        keys.append(key)
    return np.array(keys, np.int64)


def owners(scripts: Sequence[Script]) -> loops.Owners:
    """The script of each code point, as far as the last that has one; what is of none has `len(scripts)`."""
    last = max(high for script in scripts for _, high in script.ranges)
    owner = np.full(last + 1, len(scripts), np.uint8)
    for i, script in enumerate(scripts):
        for low, high in script.ranges:
            owner[low : high + 1] = i
    return owner
