"""Read: metadata becomes x_lang, field by field, in numpy. The same code reads in training and in serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import METADATA_FIELDS, FloatArray, Metadata, Reading
from app.errors import ReleaseError
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net_plus.config import PlusReadConfig
from app.families.lrid_net_plus.counted import Explanations, ScriptShares, views
from app.families.lrid_net_plus.ngrams import IndexArray, buckets, normalised


@dataclass(frozen=True, slots=True)
class FieldRead:
    """One field of metadata, taken apart."""

    buckets: IndexArray  # (k,) rows of the table
    evidence: FloatArray  # (n_languages,) sum of logarithms
    n_known: float  # of how many n-grams
    scripts: FloatArray  # (n_scripts,)
    given: bool
    has_letters: bool


class FieldReader:
    """Texts → FieldRead. Nothing in it is learnt; nothing changes after construction."""

    def __init__(self, config: PlusReadConfig) -> None:
        """Raises ReleaseError if langdetect has other languages than the manifest."""
        installed = langdetect_languages()
        if tuple(config.languages) != installed:
            raise ReleaseError(f"text languages should be langdetect's {list(installed)}, but are {config.languages}")
        self.config = config
        self._explain = Explanations(config.languages, config.smoothing)
        self._shares = ScriptShares(config.scripts)
        empty = np.zeros(len(config.languages), np.float32), np.zeros(len(config.scripts), np.float32)
        self.nothing = FieldRead(np.zeros(0, np.intp), empty[0], 0.0, empty[1], given=False, has_letters=False)

    def __call__(self, texts: Sequence[str | None]) -> list[FieldRead]:
        """Fields as the client sent them, or None. All at once is cheaper than one after the other, and the same."""
        plain = [normalised(text, self.config.max_characters) if text else "" for text in texts]
        given = [text for text in plain if text]
        if not given:
            return [self.nothing] * len(texts)
        rows = buckets(given, self.config.max_ngram, self.config.buckets_log2)
        evidence, n_known = self._explain(given)
        shares = self._shares(given)
        found = (
            FieldRead(rows[i], evidence[i], n_known[i], shares[i], given=True, has_letters=any(map(str.isalpha, text)))
            for i, text in enumerate(given)
        )
        return [next(found) if text else self.nothing for text in plain]

    def counted(self, row: Sequence[FieldRead]) -> FloatArray:
        """The part of x_lang that is not learnt: (artist, album, title) → (n_counted,)."""
        evidence = np.array([[field.evidence for field in row]])
        n_known = np.array([[field.n_known for field in row]], np.float32)
        scripts = np.array([[field.scripts for field in row]])
        given = np.array([[field.given for field in row]], np.float32)
        return self.counted_rows(evidence, n_known, scripts, given)[0]  # type: ignore[no-any-return]

    @staticmethod
    def counted_rows(evidence: FloatArray, n_known: FloatArray, scripts: FloatArray, given: FloatArray) -> FloatArray:
        """The same of n rows at once: (n, 3, n_languages), (n, 3), (n, 3, n_scripts), (n, 3) → (n, n_counted)."""
        n = len(given)
        # All fields together are the sum of the fields: n-grams across their borders would say nothing.
        evidence = np.concatenate([evidence, evidence.sum(axis=1, keepdims=True)], axis=1)  # (n, 4, n_languages)
        n_known = np.concatenate([n_known, n_known.sum(axis=1, keepdims=True)], axis=1)  # (n, 4)
        return np.concatenate([views(evidence, n_known).reshape(n, -1), scripts.reshape(n, -1), given], axis=1)


class PlusReader:
    """Metadata in, x_lang out. Deterministic, and any number of threads may call."""

    def __init__(self, config: PlusReadConfig, table: FloatArray) -> None:
        """`table`: (n_buckets, embedding_size), learnt. Raises ReleaseError if it does not fit `config`."""
        wanted = (config.n_buckets, config.embedding_size)
        if table.shape != wanted:
            raise ReleaseError(f"the table of n-grams should be {wanted} and is {table.shape}")
        self._fields = FieldReader(config)
        self._table = np.ascontiguousarray(table, np.float32)

    def __call__(self, metadata: Metadata) -> Reading:
        """Text without any letter counts as missing, and missing text is zeros."""
        row = self._fields([getattr(metadata, name) for name in METADATA_FIELDS])
        if not any(field.has_letters for field in row):
            return Reading(np.zeros(self._fields.config.n_features, np.float32), informative=False)
        sums = [self._bag(field.buckets) for field in row]
        return Reading(np.concatenate([*sums, self._fields.counted(row)]), informative=True)

    def _bag(self, rows: IndexArray) -> FloatArray:
        """(embedding_size,) of a field."""
        total: FloatArray = np.add.reduce(self._table.take(rows, axis=0), axis=0)
        return total / np.float32(max(1, len(rows)) ** 0.5)
