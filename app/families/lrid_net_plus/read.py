"""Read: metadata becomes x_lang, field by field. The same code reads in training and in serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.domain import METADATA_FIELDS, FloatArray, Metadata, Reading
from app.errors import ReleaseError
from app.families.compiled import compiled
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net_plus.config import N_FIELDS, PlusReadConfig
from app.families.lrid_net_plus.counted import Explanations, Owners, explain, owners, share_scripts, weigh
from app.families.lrid_net_plus.ngrams import (
    IndexArray,
    bounded,
    code_points,
    find_buckets,
    most_buckets,
    normalised,
    word_hashes,
)


@dataclass(frozen=True, slots=True)
class FieldRead:
    """One field of metadata, taken apart."""

    buckets: IndexArray  # (k,) rows of the table
    evidence: FloatArray  # (n_languages,) sum of logarithms
    n_known: float  # of how many n-grams
    scripts: FloatArray  # (n_scripts,)
    given: bool
    has_letters: bool


Spelled = tuple[IndexArray, IndexArray, IndexArray, IndexArray]
Tables = tuple[IndexArray, npt.NDArray[np.int32], FloatArray, Owners, int, int]


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
        self._table = np.ascontiguousarray(table, np.float32)

    def __call__(self, metadata: Metadata) -> Reading:
        """Text without any letter counts as missing, and missing text is zeros."""
        plain = [self._fields.normalised(getattr(metadata, name)) for name in METADATA_FIELDS]
        vector = np.zeros(self._fields.config.n_features, np.float32)
        informative = any(map(has_letters, plain))
        if informative:
            given = [place for place, text in enumerate(plain) if text]
            spelled = self._fields.spelled([plain[place] for place in given])
            read_fields(spelled, np.array(given), self._fields.tables, self._table, vector)
        return Reading(vector, informative)


def has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))


@compiled
def take_apart(
    spelled: Spelled, i: int, tables: Tables, evidence: FloatArray, scripts: FloatArray
) -> tuple[IndexArray, int]:
    """Rows of the table for text i; adds to `evidence` and `scripts`, zeros of (n_languages,) and (n_scripts,)."""
    codes, starts, words, word_starts = spelled
    keys, rows, logarithms, owner, max_ngram, shift = tables
    own, own_words = codes[starts[i] : starts[i + 1]], words[word_starts[i] : word_starts[i + 1]]
    seen = i + len(word_starts) - 1
    buckets = np.empty(most_buckets(len(own), len(own_words), max_ngram), np.int64)
    n_buckets = find_buckets(own, own_words, max_ngram, shift, buckets)
    n_known = explain(codes[starts[seen] : starts[seen + 1]], keys, rows, logarithms, evidence)
    share_scripts(own[1:-1], owner, scripts)
    return buckets[:n_buckets], n_known


@compiled
def weigh_fields(evidence: FloatArray, n_known: FloatArray, views: FloatArray) -> None:
    """Both views of each field and of all together into `views`, (2 * 4 * n_languages,); see `weigh`.

    All fields together are the sum of the fields: n-grams across their borders would say nothing.
    """
    n_fields, n = evidence.shape
    for field in range(n_fields):
        weigh(evidence[field], n_known[field], views[2 * field * n :][:n], views[(2 * field + 1) * n :][:n])
    weigh(evidence.sum(axis=0), n_known.sum(), views[2 * n_fields * n :][:n], views[(2 * n_fields + 1) * n :][:n])


@compiled
def read_fields(spelled: Spelled, places: IndexArray, tables: Tables, table: FloatArray, x_lang: FloatArray) -> None:
    """Fills x_lang, (n_features,) zeros. Text i is field `places[i]`: 0 artist, 1 album, 2 title."""
    n_languages, size = tables[2].shape[1], table.shape[1]
    views_at = N_FIELDS * size
    scripts_at = views_at + 2 * (N_FIELDS + 1) * n_languages
    n_scripts = (len(x_lang) - scripts_at) // N_FIELDS - 1
    evidence = np.zeros((N_FIELDS, n_languages), np.float32)
    n_known = np.zeros(N_FIELDS, np.float32)
    for i in range(len(places)):
        field = places[i]
        scripts = x_lang[scripts_at + field * n_scripts :][:n_scripts]
        buckets, n_known[field] = take_apart(spelled, i, tables, evidence[field], scripts)
        add_up(table, buckets, x_lang[field * size :][:size])
        x_lang[len(x_lang) - N_FIELDS + field] = 1.0
    weigh_fields(evidence, n_known, x_lang[views_at:scripts_at])


@compiled
def add_up(table: FloatArray, buckets: IndexArray, total: FloatArray) -> None:
    """The sum of these rows of the table over the root of their number into `total`, (embedding_size,) zeros."""
    for bucket in buckets:
        for i in range(len(total)):
            total[i] += table[bucket, i]
    root = np.float32(np.sqrt(max(1, len(buckets))))
    for i in range(len(total)):
        total[i] /= root
