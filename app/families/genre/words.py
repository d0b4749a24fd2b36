"""Lyrics → numbers of their principal words, in order: those of the vocabulary, of lines that are spread over the song."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from app.families.genre.manifest import ReadConfig
from app.families.parts.lyrics import excerpt, sung_lines
from app.families.parts.ngrams.fields import WORD, normalised

Words = npt.NDArray[np.int64]  # numbers from 1; 0 is no word


class WordReader:
    """Text → numbers. Bounded, deterministic, the same in training and in serving."""

    def __init__(self, config: ReadConfig, vocabulary: Sequence[str]) -> None:
        self._config = config
        self._numbers: Mapping[str, int] = {word: number for number, word in enumerate(vocabulary, 1)}

    def __call__(self, text: str) -> Words:
        """(k,), at most `most_words`; empty where no word is known."""
        most = self._config.read_characters
        found = [self._numbers[word] for word in words_of(text, most) if word in self._numbers]
        return np.array(found[: self._config.most_words], np.int64)


def words_of(text: str, most_characters: int) -> list[str]:
    """The words of an excerpt of lyrics, in lower case, with repetition."""
    return WORD.findall(normalised(" ".join(excerpt(sung_lines(text), most_characters)), most_characters))


def vocabulary_of(texts: Iterable[str], config: ReadConfig, size: int, least_songs: int, most_share: float) -> list[str]:
    """Words of at least `least_songs` songs and at most a share `most_share` of them, the most frequent first."""
    songs = [set(words_of(text, config.read_characters)) for text in texts]
    counts = Counter(word for song in songs for word in song)
    kept = [word for word, n in counts.items() if least_songs <= n <= most_share * len(songs)]
    return sorted(kept, key=lambda word: (-counts[word], word))[:size]
