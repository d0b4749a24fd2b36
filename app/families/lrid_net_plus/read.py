"""Read: metadata becomes x_lang, field by field. The same code reads in training and in serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import METADATA_FIELDS, FloatArray, Metadata, Reading
from app.errors import ReleaseError
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net_plus.config import PlusReadConfig
from app.families.parts.ngrams.config import N_FIELDS
from app.families.parts.ngrams.explanations import Explanations, owners
from app.families.parts.ngrams.loops import IndexArray, Spelled, Tables, read_fields, take_apart, weigh_fields
from app.families.parts.ngrams.spelling import bounded, code_points, normalised, word_hashes


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
        self._explanations = Explanations(config.languages, config.smoothing)
        self.tables: Tables = (
            self._explanations.keys,
            self._explanations.rows,
            self._explanations.logarithms,
            owners(config.scripts),
            config.max_ngram,
            32 - config.buckets_log2,
        )
        self.nothing = self._field("")

    def normalised(self, text: str | None) -> str:
        """A field as a client sent it, or None → what is read of it."""
        return normalised(text, self.config.max_characters) if text else ""

    def spelled(self, texts: Sequence[str]) -> Spelled:
        """Normalised texts as numbers, and where each begins: all texts bounded, then all as the profiles see them; and
        their words.
        """
        both = [*map(bounded, texts), *map(self._explanations.spelled, texts)]
        return (*code_points(both), *word_hashes(texts))

    def __call__(self, texts: Sequence[str | None]) -> list[FieldRead]:
        """Fields as the client sent them, or None."""
        plain = map(self.normalised, texts)
        return [self._field(text) if text else self.nothing for text in plain]

    def _field(self, text: str) -> FieldRead:
        scripts = np.zeros(len(self.config.scripts), np.float32)
        evidence = np.zeros(len(self.config.languages), np.float32)
        if not text:
            return FieldRead(np.zeros(0, np.int64), evidence, 0.0, scripts, given=False, has_letters=False)
        buckets, n_known = take_apart(self.spelled([text]), 0, self.tables, evidence, scripts)
        return FieldRead(buckets, evidence, float(n_known), scripts, given=True, has_letters=has_letters(text))

    @staticmethod
    def counted_rows(evidence: FloatArray, n_known: FloatArray, scripts: FloatArray, given: FloatArray) -> FloatArray:
        """What is not learnt, of n rows: (n, 3, n_languages), (n, 3), (n, 3, n_scripts), (n, 3) → (n, n_counted)."""
        n, size = len(given), 2 * (N_FIELDS + 1) * evidence.shape[-1]
        counted = np.zeros((n, size), np.float32)
        for row in range(n):
            weigh_fields(evidence[row], n_known[row], counted[row])
        return np.concatenate([counted, scripts.reshape(n, -1), given], axis=1)


class PlusReader:
    """Metadata in, x_lang out. Deterministic, and any number of threads may call."""

    def __init__(self, config: PlusReadConfig, table: FloatArray) -> None:
        """`table`: (n_buckets, embedding_size), learnt. Raises ReleaseError if it does not fit `config`."""
        wanted = (config.n_buckets, config.embedding_size)
        if table.shape != wanted:
            raise ReleaseError(f"the table of n-grams should be {wanted} and is {table.shape}")
        self._fields = FieldReader(config)
        self._table = (np.ascontiguousarray(table, np.float32), np.ones(config.n_buckets, np.float32))

    def __call__(self, metadata: Metadata) -> Reading:
        """Text without any letter counts as missing, and missing text is zeros."""
        plain = [self._fields.normalised(getattr(metadata, name)) for name in METADATA_FIELDS]
        vector = np.zeros(self._fields.config.n_features, np.float32)
        informative = any(map(has_letters, plain))
        if informative:
            given = [place for place, text in enumerate(plain) if text]
            spelled = self._fields.spelled([plain[place] for place in given])
            evidence = np.zeros((len(plain), len(self._fields.config.languages)), np.float32)
            read_fields(spelled, np.array(given), self._fields.tables, self._table, evidence, vector)
        return Reading(vector, informative)


def has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))
