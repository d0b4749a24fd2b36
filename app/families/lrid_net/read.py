"""Read: metadata becomes the 56-vector of the network (Choi & Wang 2021, section 3.2), with seeded langdetect.

langdetect draws n-grams of the text at random, multiplies their probabilities language by language, looks after every
fifth draw whether one language has won, and averages seven such trials. Here the same draws are made in the same order,
but the products of many blocks of five are formed at once; what was multiplied after the winning block is thrown away.
Where numba is installed, a compiled loop does the same draw by draw, in a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
from langdetect.detector import Detector

from app.domain import Metadata, Reading
from app.errors import ReleaseError
from app.families.compiled import has_compiler
from app.families.lrid_net.compiled import sum_of_trials
from app.families.lrid_net.draws import NORMAL_PAIR_WORDS, Choices, IndexArray, WordStream
from app.families.lrid_net.profiles import Float64Array, Profiles, cleaned, langdetect_languages

__all__ = ["LangdetectReader", "langdetect_languages"]

N_TRIALS = 7  # Detector.n_trial
BLOCK_DRAWS = 5  # convergence is looked at after draw 1, 6, 11, ...
MAX_BLOCKS = Detector.ITERATION_LIMIT // BLOCK_DRAWS + 1  # the first holds one draw
FIRST_BLOCKS = 24  # multiplied at once in the first trial; the later ones go by the trial before
MANY_NGRAMS = 400  # from here on, smoothing each that is drawn is cheaper than smoothing all
ROUNDING = 1e-11  # a comparison closer than this may fall otherwise in langdetect's order of additions
LARGEST, SMALLEST = 1e270, 1e-200  # the leading language's product starts at the one and is not used under the other


@dataclass(frozen=True, slots=True)
class _Trial:
    """Outcome of one of the seven trials."""

    probabilities: Float64Array  # (n_languages,)
    n_blocks: int
    doubtful: bool  # whether the comparison that ended it was within rounding


class LangdetectReader:
    """Metadata in, vector out: what `langdetect.detect_langs` answers with a fixed seed, one dimension a language.

    Probabilities up to 0.1 are 0, as langdetect leaves them out; the last dimension is 1 when it detects nothing.
    Nothing changes after construction, so any number of threads may call.
    """

    def __init__(self, languages: Sequence[str], *, seed: int, compiled: bool = True) -> None:
        """`languages`: langdetect's codes in sorted order, as the manifest lists them. Raises ReleaseError.

        `compiled`: by numba, where it is installed; else by numpy.
        """
        installed = langdetect_languages()
        if tuple(languages) != installed:
            raise ReleaseError(f"text languages should be langdetect's {list(installed)}, but are {list(languages)}")
        self._profiles = Profiles(installed)
        self._seed = seed
        self._stream = WordStream(seed, n_choices=N_TRIALS * MAX_BLOCKS * BLOCK_DRAWS)
        self._compiled = compiled and has_compiler()

    @property
    def n_features(self) -> int:
        return len(self._profiles.languages) + 1

    def __call__(self, metadata: Metadata) -> Reading:
        vector = self.vector_of(metadata.joined)
        return Reading(vector=vector.astype(np.float32), informative=not vector[-1])

    def vector_of(self, text: str) -> Float64Array:
        """(n_features,) of `text`; the last is 1, and all others 0, when langdetect detects no language in it."""
        vector = np.zeros(self.n_features)
        text = cleaned(text)
        rows = self._profiles.rows(text)
        if rows:
            mean = self._by_numba(rows) if self._compiled else self._by_numpy(rows)
            if mean is None:
                mean = self._by_langdetect(text)
            np.copyto(vector[:-1], mean, where=mean > Detector.PROB_THRESHOLD)
        if not vector.any():
            vector[-1] = 1.0
        return vector

    def _by_numba(self, rows: list[int]) -> Float64Array | None:
        """The same as `_by_numpy`."""
        upper = self._stream.upper_bits(len(rows))
        profiles, places = self._profiles, np.array(rows, np.intp)
        total, doubtful = sum_of_trials(profiles.scaled, profiles.scale, places, self._stream.words, upper, ROUNDING)
        total /= N_TRIALS
        return None if doubtful or (np.abs(total - Detector.PROB_THRESHOLD) < ROUNDING).any() else total

    def _by_numpy(self, rows: list[int]) -> Float64Array | None:
        """(n_languages,) or None if any comparison on the way was too close to call."""
        choices = Choices(self._stream, len(rows))
        evidence = _Evidence(self._profiles, rows)
        total = np.zeros(len(evidence.languages))
        place, n_blocks = 0, FIRST_BLOCKS
        normals = (0.0, 0.0)
        for t in range(N_TRIALS):
            if t % 2 == 0:
                normals = self._stream.normal_pair(place)
                place += NORMAL_PAIR_WORDS
            first = choices.first_from(place)
            alpha = Detector.ALPHA_DEFAULT + normals[t % 2] * Detector.ALPHA_WIDTH
            trial = evidence.trial(alpha, choices, first, n_blocks)
            if trial.doubtful:
                return None
            total += trial.probabilities
            place = choices.place_after(first + (trial.n_blocks - 1) * BLOCK_DRAWS)
            n_blocks = (n_blocks + trial.n_blocks) // 2 + 4
        total /= N_TRIALS
        if (np.abs(total - Detector.PROB_THRESHOLD) < ROUNDING).any():
            return None
        mean = np.zeros(self.n_features - 1)
        mean[evidence.languages] = total
        return mean

    def _by_langdetect(self, text: str) -> Float64Array:
        """(n_languages,) by langdetect's own arithmetic, for the rare text on which rounding decides."""
        factory = SimpleNamespace(
            word_lang_prob_map=self._profiles.excerpt(text), langlist=list(self._profiles.languages), seed=self._seed
        )
        detector = Detector(factory)
        detector.text = text
        found = {language.lang: language.prob for language in detector.get_probabilities()}
        return np.array([found.get(code, 0.0) for code in self._profiles.languages])


class _Evidence:
    """The n-grams of one text against the languages that come into question, a column each.

    Languages whose profile holds none of the n-grams share the last column: they have the same probability all along,
    the smoothing alone, and never the largest, as all others are over it at every draw.
    """

    def __init__(self, profiles: Profiles, rows: list[int]) -> None:
        self._rows = np.array(rows)
        self._profiles = profiles
        self._few = len(rows) < MANY_NGRAMS
        if self._few:
            scaled = profiles.scaled.take(self._rows, axis=0)
            columns = scaled.any(axis=0).nonzero()[0]
            self.languages = columns
            columns = np.append(columns, len(profiles.languages))
            self._scaled = scaled.take(columns, axis=1)
            self._scale = profiles.scale.take(self._rows).repeat(len(columns)).reshape(self._scaled.shape)
        else:
            self.languages = np.arange(len(profiles.languages))
        self._start = np.full(len(self.languages) + 1, LARGEST)
        self._start[-1] *= len(profiles.languages) - len(self.languages)

    def _smoothed(self, weight: float) -> Callable[[IndexArray], Float64Array]:
        """Smoothed probabilities, scaled, of n-grams by their number in the text: (...) -> (..., n_columns)."""
        if self._few:
            table = self._scale * weight
            table += self._scaled
            return partial(table.take, axis=0)

        def smooth(numbers: IndexArray) -> Float64Array:
            rows = self._rows.take(numbers)
            likelihood: Float64Array = self._profiles.scaled.take(rows, axis=0)
            likelihood += weight * self._profiles.scale.take(rows)[..., None]
            return likelihood

        return smooth

    def trial(self, alpha: float, choices: Choices, first: int, n_blocks: int) -> _Trial:
        """Draw from choice `first` on until one language has won, multiplying `n_blocks` blocks at once."""
        smoothed = self._smoothed(alpha / Detector.BASE_FREQ)
        # After this one draw nothing can be decided yet: no n-gram has a probability over 0.32 in any language.
        state = smoothed(choices.take(first, 1))[0] * self._start
        done, first = 1, first + 1
        while True:
            n_blocks = min(n_blocks, MAX_BLOCKS - done)
            drawn = choices.take(first, n_blocks * BLOCK_DRAWS).reshape(n_blocks, BLOCK_DRAWS)
            blocks = np.multiply.reduce(smoothed(drawn.T), axis=0)  # (n_blocks, n_columns)
            blocks[0] *= state
            # Kept language by language in memory, as the next steps go along the blocks.
            products = np.multiply.accumulate(blocks, axis=0, out=np.empty(blocks.shape[::-1]).T)
            peaks = np.maximum.reduce(products[:, :-1], axis=1)
            if peaks[-1] < SMALLEST:
                n_blocks = int((peaks >= SMALLEST).sum())
                products, peaks = products[:n_blocks], peaks[:n_blocks]
            sums = np.add.reduce(products, axis=1)
            won = peaks > (Detector.CONV_THRESHOLD - ROUNDING) * sums
            last = int(won.argmax())
            if won[last] or done + n_blocks == MAX_BLOCKS:
                last = last if won[last] else n_blocks - 1
                doubtful = abs(peaks[last] / sums[last] - Detector.CONV_THRESHOLD) < ROUNDING
                return _Trial(products[last, :-1] / sums[last], done + last + 1, bool(doubtful))
            done += n_blocks
            first += n_blocks * BLOCK_DRAWS
            state = products[-1] / peaks[-1] * LARGEST
