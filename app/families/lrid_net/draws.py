"""The random choices that langdetect makes with a fixed seed, laid out once.

langdetect restarts `random.Random` with its seed for every text, so the generator's 32-bit words are the same each time.
What differs is how many a text consumes: a choice among n takes the upper bits of word after word until they are under
n (CPython's `Random._randbelow_with_getrandbits`), and four words make a pair of normal deviates (`Random.gauss`).
"""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt

IndexArray = npt.NDArray[np.intp]

WORD_BITS = 32
NORMAL_PAIR_WORDS = 4
MAX_BITS = 15  # 10,000 characters have at most 30,000 n-grams


class WordStream:
    """The first words of `random.Random(seed)`, enough for `n_choices` choices and 16 normal deviates. Immutable."""

    def __init__(self, seed: int, *, n_choices: int) -> None:
        # A word whose top bit is 0 is accepted whatever n is, so these bound what any text can consume.
        n_surely_accepted, n_words = 0, n_choices
        while n_surely_accepted < n_choices + 32:
            n_words *= 2
            words = np.frombuffer(random.Random(seed).randbytes(4 * n_words), "<u4").astype(np.intp)
            n_surely_accepted = int((words >> (WORD_BITS - 1) == 0).sum())
        self.words: IndexArray = words
        self._words: list[int] = words.tolist()
        self._upper_bits = tuple(words >> (WORD_BITS - bits) for bits in range(MAX_BITS + 1))
        self.n_words = n_words

    def normal_pair(self, start: int) -> tuple[float, float]:
        """Two deviates N(0, 1), as two calls of `Random.gauss` make them of the four words from `start` on."""
        angle = self._uniform(start) * (2.0 * math.pi)
        radius = math.sqrt(-2.0 * math.log(1.0 - self._uniform(start + 2)))
        return math.cos(angle) * radius, math.sin(angle) * radius

    def _uniform(self, start: int) -> float:
        high, low = self._words[start] >> 5, self._words[start + 1] >> 6
        return (high * 67108864.0 + low) / 9007199254740992.0  # 27 and 26 bits: 53 of them, in [0, 1)

    def upper_bits(self, n: int) -> IndexArray:
        """(n_words,) of every word the bits that choose among `n`, if they are under `n`."""
        return self._upper_bits[n.bit_length()]

    def accepted(self, n: int, n_words: int) -> tuple[IndexArray, IndexArray]:
        """Of the first `n_words` words, the places of those that choose among `n`, and what they choose."""
        upper = self.upper_bits(n)[:n_words]
        (places,) = (upper < n).nonzero()
        return places, upper.take(places)


class Choices:
    """The choices among `n` that the words make, in order; looked up as far as they are asked for, by one thread."""

    FIRST_WORDS = 4096  # nine texts in ten need no more

    def __init__(self, stream: WordStream, n: int) -> None:
        self._stream, self._n, self._n_words = stream, n, self.FIRST_WORDS
        self._places, self._chosen = stream.accepted(n, self._n_words)

    def first_from(self, place: int) -> int:
        """Number of the first choice made with the word at `place` or a later one."""
        if place >= self._n_words:
            self._look_up_all()
        return int(self._places.searchsorted(place))

    def take(self, first: int, count: int) -> IndexArray:
        """Choices `first` to `first + count - 1`: (count,) in [0, n)."""
        if first + count > len(self._chosen):
            self._look_up_all()
        return self._chosen[first : first + count]

    def place_after(self, number: int) -> int:
        """Place of the word that follows choice `number`."""
        return int(self._places[number]) + 1

    def _look_up_all(self) -> None:
        self._n_words = self._stream.n_words
        self._places, self._chosen = self._stream.accepted(self._n, self._n_words)
