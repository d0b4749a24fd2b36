"""Which vectors of the table a text adds up: hashes of its character n-grams, words and pairs of words.

In the manner of fastText (Bojanowski et al. 2017), over code points: no vocabulary, nothing is ever unknown. Hashes are
32-bit FNV-1a with a multiplicative finish, the same on every machine.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint32]
IndexArray = npt.NDArray[np.intp]

FNV_START, FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)
SPREAD = np.uint32(2654435761)  # odd, near 2**32 over the golden ratio: the upper bits of a product depend on all
WORD_SALT, PAIR_SALT = np.uint32(0x51ED270B), np.uint32(0x7FEB352D)
LENGTHS = tuple(map(np.uint32, range(1, 9)))  # signs of the n-grams, by n; 8 is the most that a manifest may ask for
BEGIN, END = "\x02", "\x03"
WORD = re.compile(r"\w+")


def normalised(text: str, max_characters: int) -> str:
    """Compatibility forms composed, lower case, single spaces, cut: writing habits that say nothing of the language."""
    folded = unicodedata.normalize("NFKC", text[: 4 * max_characters]).lower()
    return " ".join(folded.split())[:max_characters]


def code_points(text: str) -> Hashes:
    """(n,) of any string, lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def bounded(texts: Sequence[str]) -> str:
    """Texts end to end, each between two signs of its own."""
    return "".join([f"{BEGIN}{text}{END}" for text in texts])


def hashes(texts: Sequence[str], max_ngram: int) -> list[Hashes]:
    """32-bit hashes of normalised texts, (k,) each: character n-grams by length, words, pairs of words. An empty text
    has those of its bounds.
    """
    codes = code_points(bounded(texts))
    state = (FNV_START ^ codes) * FNV_PRIME  # of the n-grams that start at each place, for n = 1, 2, ...
    signed = [state ^ LENGTHS[0]]
    for n in range(2, min(max_ngram, len(codes)) + 1):
        state = (state[:-1] ^ codes[n - 1 :]) * FNV_PRIME
        signed.append(state ^ LENGTHS[n - 1])
    found, start = [], 0
    for text in texts:
        size = len(text) + 2
        words = _words(text)
        pairs = (words[:-1] * FNV_PRIME ^ words[1:]) ^ PAIR_SALT
        of_length = [ngrams[start : start + size - i] for i, ngrams in enumerate(signed[:size])]
        found.append(np.concatenate([*of_length, words ^ WORD_SALT, pairs]) * SPREAD)
        start += size
    return found


def _words(text: str) -> Hashes:
    """(n_words,)"""
    return np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in WORD.findall(text)], np.uint32)


def buckets(texts: Sequence[str], max_ngram: int, buckets_log2: int) -> list[IndexArray]:
    """Rows of the table of normalised texts, (k,) each, with repetition."""
    shift = np.uint32(32 - buckets_log2)
    return [(found >> shift).astype(np.intp) for found in hashes(texts, max_ngram)]
