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

from app.families.parts.ngrams.loops import IndexArray

Laid = tuple[IndexArray, IndexArray]  # the numbers of several texts end to end, and where each begins, (n + 1,)

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
