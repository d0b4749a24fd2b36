"""Rows of metadata to train the reader of `lrid_net_plus` on: how they are drawn, and what is done to them.

Where a row comes from must not be what tells its language. Charts of French rap have no albums here, anime themes no
artists, and so on. So whether a field is given is drawn at random, whatever the row has: missing albums are invented from
titles, missing artists borrowed within the language, and given ones left out. What people send is like that, too.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.domain import METADATA_FIELDS, Metadata
from app.families.lrid_net_plus.read import FieldRead, FieldReader
from app.training.corpus import Row, count, row_probabilities
from app.training.errors import CorpusError

ARTIST, ALBUM, TITLE = range(3)  # METADATA_FIELDS
Texts = tuple[str | None, str | None, str | None]
NO_TEXT: Texts = (None, None, None)
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How likely each field is given, whatever the row has, and how else a drawn row is changed."""

    give_artist: float = 0.65
    give_album: float = 0.6
    give_title: float = 0.9
    give_nothing: float = 0.02  # the answer to learn is the class mix
    replace_artist: float = 0.1  # by another of the same language, as where there is none
    stray_artist: float = 0.15  # by one of any language: artists to come are strangers, and less than a name to go by
    replace_album: float = 0.25  # by the title of another row of the artist, else of the language; as where there is none
    lose_accents: float = 0.1
    drop_ngram: float = 0.2  # each of them; the rest counts for more


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as the network takes them."""

    buckets: Tensor  # (k,) rows of the table, field after field
    offsets: Tensor  # (3 n,) where each field begins
    weights: Tensor  # (k,) of each n-gram in its field's sum
    counted: Tensor  # (n, n_counted)


class Drawer:
    """Training rows, and their changed likenesses."""

    def __init__(self, rows: Sequence[Row], probabilities: Float64, habits: Habits) -> None:
        self.texts: list[Texts] = [texts_of(row.metadata) for row in rows]
        self.labels = np.array([row.label for row in rows])
        self._probabilities = probabilities
        self._habits = habits
        self._of_label = {int(c): np.flatnonzero(self.labels == c) for c in np.unique(self.labels)}
        by_artist: dict[tuple[str | None, int], list[int]] = {}
        for i, (texts, label) in enumerate(zip(self.texts, self.labels, strict=True)):
            by_artist.setdefault((texts[ARTIST], int(label)), []).append(i)
        self._of_artist = {key: found for key, found in by_artist.items() if key[0] and len(found) > 1}

    def draw(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """(n,) rows, with replacement."""
        return rng.choice(len(self.texts), n, p=self._probabilities)

    def likeness(self, i: int, rng: np.random.Generator) -> Texts:
        """Row `i` as somebody might have sent it."""
        habits = self._habits
        artist, album, title = self.texts[i]
        chance = rng.random(8)
        if chance[0] < habits.give_nothing:
            return NO_TEXT
        if not artist or chance[1] < habits.replace_artist:
            artist = self.texts[int(rng.choice(self._of_label[int(self.labels[i])]))][ARTIST]
        if chance[7] < habits.stray_artist:
            artist = self.texts[int(self.draw(1, rng)[0])][ARTIST]
        if not album or chance[2] < habits.replace_album:
            album = self.texts[self._sibling(i, rng)][TITLE]
        given = (
            artist if chance[3] < habits.give_artist else None,
            album if chance[4] < habits.give_album else None,
            title if chance[5] < habits.give_title else None,
        )
        kept: Texts = given if any(given) else self.texts[i]
        if chance[6] < habits.lose_accents:
            kept = (_without_accents(kept[0]), _without_accents(kept[1]), _without_accents(kept[2]))
        return kept

    def _sibling(self, i: int, rng: np.random.Generator) -> int:
        label = int(self.labels[i])
        family = self._of_artist.get((self.texts[i][ARTIST], label))
        return int(rng.choice(family if family is not None else self._of_label[label]))


class Shelf:
    """Fields read once each: the same titles come by many times."""

    def __init__(self, reader: FieldReader) -> None:
        self.reader = reader
        self._read: dict[str, FieldRead] = {}

    def __call__(self, text: str | None) -> FieldRead:
        if not text:
            return self.reader.nothing
        if text not in self._read:
            self._read[text] = self.reader([text])[0]
        return self._read[text]

    def batch(self, rows: Sequence[Texts], rng: np.random.Generator | None = None, drop_ngram: float = 0.0) -> Batch:
        """As serving reads; with `rng`, n-grams are dropped. Text without a letter is left out, as in serving."""
        read = [[self(text) for text in row] for row in rows]
        nothing = self.reader.nothing
        read = [row if any(field.has_letters for field in row) else [nothing] * 3 for row in read]
        sizes = np.array([len(field.buckets) for row in read for field in row])
        weights = np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes)
        if rng is not None and drop_ngram:
            weights *= (rng.random(len(weights)) >= drop_ngram) / (1.0 - drop_ngram)
        return Batch(
            torch.from_numpy(np.concatenate([field.buckets for row in read for field in row])),
            torch.from_numpy(np.concatenate([[0], sizes.cumsum()[:-1]])),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(self.reader.counted(read)),
        )


def texts_of(metadata: Metadata) -> Texts:
    artist, album, title = (getattr(metadata, name) for name in METADATA_FIELDS)
    return artist, album, title


def draw_probabilities(
    rows: Sequence[Row], mix: Float64, weights: Mapping[str, float], artist_power: float = 1.0
) -> Float64:
    """(n_rows,): classes as `mix` says; within a class by the weight of the first prefix that fits the row's strength.

    An artist of n rows counts as n ** `artist_power` rows. Raises CorpusError if a class of the mix has no rows.
    """
    lacking = np.flatnonzero((count(rows, len(mix)) == 0) & (mix > 0))
    if lacking.size:
        raise CorpusError(f"no training rows of class number {lacking[0]}: add some, or train without the class")
    of_artist = Counter((row.metadata.artist, row.label) for row in rows)

    def weight(row: Row) -> float:
        own = next((w for start, w in weights.items() if row.strength.startswith(start)), 1.0)
        n = of_artist[row.metadata.artist, row.label] if row.metadata.artist else 1
        return own * float(n ** (artist_power - 1.0))

    return row_probabilities(rows, mix, weight)


def read_phrases(codes: Sequence[str]) -> list[Row]:
    """`phrases.json` as training rows with a title alone and the strength "phrase"; of the classes asked for."""
    text = resources.files(__package__).joinpath("phrases.json").read_text(encoding="utf-8")
    entries = json.loads(text)["languages"].values()
    return [
        Row(0, None, Metadata(title=phrase), codes.index(entry["label"]), "train", "phrase")
        for entry in entries
        if entry["label"] in codes
        for phrase in entry["phrases"]
    ]


def _without_accents(text: str | None) -> str | None:
    """Letters without their marks, where Unicode composes them: what a careless keyboard makes of a Latin name."""
    if text is None or text.isascii():
        return text
    parts = (unicodedata.normalize("NFD", sign) for sign in text)
    return "".join(sign[0] if sign[0].isascii() else unicodedata.normalize("NFC", sign) for sign in parts)
