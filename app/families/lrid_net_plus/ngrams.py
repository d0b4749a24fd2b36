"""Which vectors of the table a text adds up: hashes of its character n-grams, words and pairs of words.

In the manner of fastText (Bojanowski et al. 2017), over code points: no vocabulary, nothing is ever unknown. Hashes are
32-bit FNV-1a with a multiplicative finish, the same on every machine.
"""

from __future__ import annotations

import re
import unicodedata
import zlib

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint32]
IndexArray = npt.NDArray[np.intp]

FNV_START, FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)
SPREAD = np.uint32(2654435761)  # odd, near 2**32 over the golden ratio: the upper bits of a product depend on all
WORD_SALT, PAIR_SALT = np.uint32(0x51ED270B), np.uint32(0x7FEB352D)
BEGIN, END = "\x02", "\x03"
WORD = re.compile(r"\w+")


def normalised(text: str, max_characters: int) -> str:
    """Compatibility forms composed, lower case, single spaces, cut: writing habits that say nothing of the language."""
    folded = unicodedata.normalize("NFKC", text[: 4 * max_characters]).lower()
    return " ".join(folded.split())[:max_characters]


def code_points(text: str) -> Hashes:
    """(n,) of any string, lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def hashes(text: str, max_ngram: int) -> Hashes:
    """(k,) 32-bit hashes of a normalised text, which is bounded by two signs of its own; empty for an empty one."""
    if not text:
        return np.zeros(0, np.uint32)
    codes = code_points(f"{BEGIN}{text}{END}")
    state = np.full(len(codes), FNV_START)
    found = []
    for n in range(1, min(max_ngram, len(codes)) + 1):
        state = (state[: len(codes) - n + 1] ^ codes[n - 1 :]) * FNV_PRIME  # of the n-gram that starts here
        found.append(state ^ np.uint32(n))
    words = np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in WORD.findall(text)], np.uint32)
    found += [words ^ WORD_SALT, (words[:-1] * FNV_PRIME ^ words[1:]) ^ PAIR_SALT]
    return np.concatenate(found) * SPREAD


def buckets(text: str, max_ngram: int, buckets_log2: int) -> IndexArray:
    """(k,) rows of the table of a normalised text, with repetition."""
    return (hashes(text, max_ngram) >> np.uint32(32 - buckets_log2)).astype(np.intp)
