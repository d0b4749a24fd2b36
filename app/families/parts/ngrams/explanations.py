"""What a text shows without anything learnt: how well each language explains it, and the scripts it is written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from app.families.parts.ngrams.config import Script
from app.families.parts.ngrams.loops import CODE_BITS, NOT_KNOWN, SLOT_BITS, IndexArray, Owners, fill_slots
from app.families.parts.profiles import Profiles, cleaned


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
