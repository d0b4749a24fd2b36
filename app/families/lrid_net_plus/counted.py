"""What a text shows without anything learnt: how well each language explains it, and the scripts it is written in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.domain import FloatArray
from app.families.lrid_net.profiles import Profiles, cleaned
from app.families.lrid_net_plus.config import Script
from app.families.lrid_net_plus.ngrams import Hashes


class Explanations:
    """langdetect's profiles, every n-gram of a text counted: nothing is drawn at random, nothing is left out."""

    def __init__(self, languages: Sequence[str], smoothing: float) -> None:
        self._profiles = Profiles(languages)
        n = len(self._profiles.languages)
        probabilities = self._profiles.scaled[:, :n] / self._profiles.scale[:, None]  # (n_ngrams, n_languages)
        self._logarithms = np.log(probabilities + smoothing).astype(np.float32)
        self._none = np.zeros(n, np.float32)

    def __call__(self, text: str) -> tuple[FloatArray, int]:
        """Sum over the known n-grams of the logarithm of their probability, (n_languages,), and how many they are."""
        rows = self._profiles.rows(cleaned(text))
        return (self._logarithms.take(rows, axis=0).sum(axis=0), len(rows)) if rows else (self._none, 0)


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
        spans = sorted((low, high, i) for i, script in enumerate(scripts) for low, high in script.ranges)
        edges, owners = [0], [self.n]  # the last owner stands for characters of no script
        for low, high, i in spans:
            edges += [low, high + 1]
            owners += [i, self.n]
        self._edges, self._owners = np.array(edges), np.array(owners)

    def __call__(self, codes: Hashes) -> FloatArray:
        """(n_scripts,) of the code points of a text that is not empty."""
        owner = self._owners[self._edges.searchsorted(codes, side="right") - 1]
        return (np.bincount(owner, minlength=self.n + 1)[: self.n] / len(codes)).astype(np.float32)
