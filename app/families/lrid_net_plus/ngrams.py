"""Which vectors of the table a text adds up: hashes of its character n-grams, words and pairs of words.

In the manner of fastText (Bojanowski et al. 2017), over code points: no vocabulary, nothing is ever unknown. Hashes are
32-bit FNV-1a with a multiplicative finish, the same on every machine.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from app.families.compiled import compiled

IndexArray = npt.NDArray[np.int64]
Laid = tuple[IndexArray, IndexArray]  # the numbers of several texts end to end, and where each begins, (n + 1,)

FNV_START, FNV_PRIME = 2166136261, 16777619
SPREAD = 2654435761  # odd, near 2**32 over the golden ratio: the upper bits of a product depend on all
BITS_32 = 0xFFFFFFFF
WORD_SALT, PAIR_SALT = 0x51ED270B, 0x7FEB352D
BEGIN, END = "\x02", "\x03"
WORD = re.compile(r"\w+")


def normalised(text: str, max_characters: int) -> str:
    """Compatibility forms composed, lower case, single spaces, cut: writing habits that say nothing of the language."""
    folded = unicodedata.normalize("NFKC", text[: 4 * max_characters]).lower()
    return " ".join(folded.split())[:max_characters]


def code_points(texts: Sequence[str]) -> Laid:
    """Of any strings, lone surrogates included."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    return codes, _starts(texts)


def bounded(text: str) -> str:
    """Between two signs of its own: n-grams know where it begins and ends."""
    return f"{BEGIN}{text}{END}"


def word_hashes(texts: Sequence[str]) -> Laid:
    """32-bit hashes of the words of normalised texts."""
    by_text = [[zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in WORD.findall(text)] for text in texts]
    return np.array([crc for hashes in by_text for crc in hashes], np.int64), _starts(by_text)


def _starts(parts: Sequence[Sequence[object]]) -> IndexArray:
    return np.array([0, *accumulate([len(part) for part in parts])], np.int64)


@compiled
def most_buckets(n_codes: int, n_words: int, max_ngram: int) -> int:
    """How many rows of the table a text may have."""
    return max_ngram * n_codes + 2 * n_words


@compiled
def find_buckets(codes: IndexArray, words: IndexArray, max_ngram: int, shift: int, found: IndexArray) -> int:
    """Rows of the table, with repetition, into `found`, which has room for all; returns how many.

    `codes` (n,): a bounded text. First its n-grams by their start, then its words, each with the pair that it ends.
    `shift`: 32 less the number of bits of a row's number.
    """
    count = 0
    for start in range(len(codes)):
        state = FNV_START
        for length in range(1, min(max_ngram, len(codes) - start) + 1):
            state = ((state ^ int(codes[start + length - 1])) * FNV_PRIME) & BITS_32
            found[count] = (((state ^ length) * SPREAD) & BITS_32) >> shift
            count += 1
    for i in range(len(words)):
        word = int(words[i])
        found[count] = (((word ^ WORD_SALT) * SPREAD) & BITS_32) >> shift
        count += 1
        if i > 0:
            pair = ((int(words[i - 1]) * FNV_PRIME) & BITS_32) ^ word ^ PAIR_SALT
            found[count] = ((pair * SPREAD) & BITS_32) >> shift
            count += 1
    return count
