"""What a text shows without anything learnt: how well each language explains it, and the scripts it is written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from app.domain import FloatArray
from app.families.compiled import compiled
from app.families.lrid_net.profiles import Profiles, cleaned
from app.families.lrid_net_plus.config import Script
from app.families.lrid_net_plus.ngrams import BITS_32, SPREAD, IndexArray

CODE_BITS = 21  # of a code point; three make a key
SLOT_BITS = 18  # 87,486 n-grams are known to the profiles of langdetect 1.0.9
NOT_KNOWN = -1
Owners = npt.NDArray[np.uint8]


class Explanations:
    """langdetect's profiles, every n-gram of a text counted: nothing is drawn at random, nothing is left out.

    Nothing but its arrays is needed to explain a text; see `explain`.
    """

    def __init__(self, languages: Sequence[str], smoothing: float) -> None:
        profiles = Profiles(languages)
        n = len(profiles.languages)
        probabilities = profiles.scaled[:, :n] / profiles.scale[:, None]  # (n_ngrams, n_languages)
        self.logarithms = np.log(probabilities + smoothing).astype(np.float32)
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


@compiled
def _slot(key: int) -> int:
    """Where to look first."""
    return ((((key >> 31) ^ key) & BITS_32) * SPREAD & BITS_32) >> (32 - SLOT_BITS)


@compiled
def fill_slots(keys: IndexArray, rows: npt.NDArray[np.int32], new: IndexArray) -> None:
    """Key i of `new` gets row i; a slot that is taken passes it on to the next."""
    for row in range(len(new)):
        slot = _slot(int(new[row]))
        while keys[slot] != NOT_KNOWN:
            slot = (slot + 1) % len(keys)
        keys[slot], rows[slot] = new[row], row


@compiled
def explain(
    codes: IndexArray, keys: IndexArray, rows: npt.NDArray[np.int32], logarithms: FloatArray, total: FloatArray
) -> int:
    """Adds the logarithms of the probabilities of all known n-grams to `total`, (n_languages,); returns how many.

    `codes` (n,): of a text as `Explanations.spelled` gives it. Its first two are the spaces before.
    """
    n_known = 0
    for end in range(2, len(codes)):
        key, shift = 0, 0
        for place in range(end, end - 3, -1):  # one, two, three characters
            key |= (int(codes[place]) + 1) << shift
            shift += CODE_BITS
            slot = _slot(key)
            while keys[slot] != NOT_KNOWN and keys[slot] != key:
                slot = (slot + 1) % len(keys)
            if keys[slot] == key:
                total += logarithms[rows[slot]]
                n_known += 1
    return n_known


@compiled
def weigh(evidence: FloatArray, n_known: float, mean: FloatArray, posterior: FloatArray) -> None:
    """Two views of the sums over the n-grams, (n_languages,) each; zeros where nothing is known.

    `mean` over the n-grams, less the mean over the languages: how a text is written. And the `posterior`, with the
    evidence of k n-grams counted as that of sqrt(k), since neighbours share their characters: how sure that makes.
    """
    if n_known == 0:
        mean[:] = 0.0
        posterior[:] = 0.0
        return
    n_languages = len(evidence)
    centre = 0.0
    for i in range(n_languages):
        centre += float(evidence[i])
    centre /= n_languages
    largest = float(evidence.max())
    root, total = np.sqrt(n_known), 0.0
    for i in range(n_languages):
        mean[i] = (float(evidence[i]) - centre) / n_known
        posterior[i] = np.exp((float(evidence[i]) - largest) / root)
        total += float(posterior[i])
    for i in range(n_languages):
        posterior[i] /= total


def owners(scripts: Sequence[Script]) -> Owners:
    """The script of each code point, as far as the last that has one; what is of none has `len(scripts)`."""
    last = max(high for script in scripts for _, high in script.ranges)
    owner = np.full(last + 1, len(scripts), np.uint8)
    for i, script in enumerate(scripts):
        for low, high in script.ranges:
            owner[low : high + 1] = i
    return owner


@compiled
def share_scripts(codes: IndexArray, owner: Owners, shares: FloatArray) -> None:
    """Shares of a text's characters by script into `shares`, (n_scripts,) zeros; they need not add up to 1."""
    for code in codes:
        if code < len(owner) and owner[code] < len(shares):
            shares[owner[code]] += 1.0
    for i in range(len(shares)):
        shares[i] /= max(1, len(codes))
