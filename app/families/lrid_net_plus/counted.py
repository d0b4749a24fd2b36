"""What a text shows without anything learnt: how well each language explains it, and the scripts it is written in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.domain import FloatArray
from app.families.lrid_net.profiles import Profiles, cleaned
from app.families.lrid_net_plus.config import Script
from app.families.lrid_net_plus.ngrams import code_points


class Explanations:
    """langdetect's profiles, every n-gram of a text counted: nothing is drawn at random, nothing is left out."""

    def __init__(self, languages: Sequence[str], smoothing: float) -> None:
        self._profiles = Profiles(languages)
        n = len(self._profiles.languages)
        probabilities = self._profiles.scaled[:, :n] / self._profiles.scale[:, None]  # (n_ngrams, n_languages)
        self._logarithms = np.log(probabilities + smoothing).astype(np.float32)

    def __call__(self, texts: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Over the known n-grams: sums of the logarithm of their probability, (n, n_languages), and how many, (n,)."""
        rows = [self._rows(text) for text in texts]
        sums = np.zeros((len(texts), self._logarithms.shape[1]), np.float32)
        for total, known in zip(sums, rows, strict=True):
            if known:
                self._logarithms.take(known, axis=0).sum(axis=0, out=total)
        return sums, np.array([len(known) for known in rows], np.float32)

    def _rows(self, text: str) -> list[int]:
        return self._profiles.rows(cleaned(text))


def views(evidence: FloatArray, n_known: FloatArray) -> FloatArray:
    """(..., n_languages) sums and their number of terms (...) → (..., 2 * n_languages); zeros where nothing is known.

    First the mean over the n-grams, less the mean over the languages: how a text is written. Then the posterior, with
    the evidence of k n-grams counted as that of sqrt(k), since neighbours share their characters: how sure that makes.
    """
    known = np.maximum(n_known, 1.0)[..., None]
    mean = evidence / known
    mean = mean - mean.mean(axis=-1, keepdims=True)
    tempered = evidence / np.sqrt(known)
    powers = np.exp(tempered - tempered.max(axis=-1, keepdims=True))
    posterior = powers / powers.sum(axis=-1, keepdims=True)
    return np.concatenate([mean, posterior], axis=-1) * (n_known > 0)[..., None]


class ScriptShares:
    """Shares of a text's characters by script; they need not add up to 1."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self.n = len(scripts)
        last = max(high for script in scripts for _, high in script.ranges)
        self._owner = np.full(last + 2, self.n, np.intp)  # by code point; n stands for no script, as does what is beyond
        for i, script in enumerate(scripts):
            for low, high in script.ranges:
                self._owner[low : high + 1] = i

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        """(n, n_scripts) of texts that are not empty."""
        sizes = [len(text) for text in texts]
        owner = self._owner.take(code_points("".join(texts)), mode="clip")
        place = owner + np.arange(len(texts)).repeat(sizes) * (self.n + 1)
        counts = np.bincount(place, minlength=len(texts) * (self.n + 1)).reshape(len(texts), -1)
        return (counts[:, : self.n] / np.array(sizes)[:, None]).astype(np.float32)  # type: ignore[no-any-return]
