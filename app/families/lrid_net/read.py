"""Read: metadata becomes the 56-vector of the network (Choi & Wang 2021, section 3.2), by langdetect with a fixed seed."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from langdetect.detector import Detector

from app.domain import Metadata, Reading, Track
from app.families.parts.profiles import Float64Array, Profiles, cleaned

MOST_CHARACTERS = 300  # of artist, album and title: reading runs on the event loop, and takes longer for longer texts


class _Detector(Detector):  # type: ignore[misc]
    """langdetect's, with vectors in place of its loops over languages: the same sums and products in half the time."""

    def _init_probability(self) -> Float64Array:
        return np.full(len(self.langlist), 1.0 / len(self.langlist))

    def _update_lang_prob(self, prob: Float64Array, word: str, alpha: float) -> None:
        prob *= alpha / self.BASE_FREQ + self.word_lang_prob_map[word]

    def _normalize_prob(self, prob: Float64Array) -> float:
        prob /= sum(prob.tolist())  # one after the other, as langdetect adds
        return float(prob.max())


class LangdetectReader:
    """What `langdetect.detect_langs` answers with a fixed seed, a dimension per language; the last: none. Thread-safe.

    Implements `contract.InputBranch`.
    """

    field = None  # it reads the metadata

    def __init__(self, languages: Sequence[str], *, seed: int) -> None:
        """`languages`: langdetect's codes in sorted order, as the manifest lists them. Raises ReleaseError."""
        self._profiles = Profiles(languages)
        self._seed = seed

    def read(self, track: Track) -> Reading | None:
        return self(track.metadata) if track.metadata.fields else None

    def __call__(self, metadata: Metadata) -> Reading:
        vector = self.vector_of(metadata.joined[:MOST_CHARACTERS])
        return Reading(vector=vector.astype(np.float32), informative=not vector[-1])

    def vector_of(self, text: str) -> Float64Array:
        """(n_languages + 1,) of `text`; the last is 1, and all others 0, when langdetect detects no language in it."""
        vector = np.zeros(len(self._profiles.languages) + 1)
        text = cleaned(text)
        known = self._profiles.excerpt(text)
        if known:
            found = self._detect(text, known)
            vector[:-1] = [found.get(code, 0.0) for code in self._profiles.languages]
        if not vector.any():
            vector[-1] = 1.0
        return vector

    def _detect(self, text: str, known: dict[str, Float64Array]) -> dict[str, float]:
        """Probabilities over 0.1 by langdetect's own Detector, given the n-grams of this text alone."""
        factory = SimpleNamespace(word_lang_prob_map=known, langlist=list(self._profiles.languages), seed=self._seed)
        detector = _Detector(factory)
        detector.text = text
        return {language.lang: language.prob for language in detector.get_probabilities()}
