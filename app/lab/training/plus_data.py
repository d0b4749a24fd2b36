"""Rows of metadata to train the reader of `lrid_net_plus` on: how they are drawn, and what is done to them.

Where a row comes from must not be what tells its language. Charts of French rap have no albums here, anime themes no
artists, and so on. So whether a field is given is drawn at random, whatever the row has: missing albums are invented from
titles, missing artists borrowed within the language, and given ones left out. What people send is like that, too.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.domain import METADATA_FIELDS, FloatArray, Metadata
from app.families.lrid_net_plus.read import FieldRead, FieldReader
from app.lab.training.corpus import Row, count
from app.lab.training.errors import CorpusError

ARTIST, ALBUM, TITLE = range(3)  # METADATA_FIELDS
Texts = tuple[str | None, str | None, str | None]
NO_TEXT: Texts = (None, None, None)
Float64 = npt.NDArray[np.float64]
LATIN_END = "\u0250"  # of Latin with its extensions A and B
LATIN_MORE = ("\u1e00", "\u1eff")  # Latin extended additional


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
    drop_ngram: float = 0.35  # each of them; the rest counts for more


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
        self._up_to = probabilities.cumsum() / probabilities.sum()
        self._habits = habits
        self._of_label = [np.flatnonzero(self.labels == c).tolist() for c in range(self.labels.max() + 1)]
        by_artist: dict[tuple[str | None, int], list[int]] = {}
        for i, (texts, label) in enumerate(zip(self.texts, self.labels.tolist(), strict=True)):
            by_artist.setdefault((texts[ARTIST], label), []).append(i)
        self._of_artist = {key: found for key, found in by_artist.items() if key[0] and len(found) > 1}

    def draw(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """(n,) rows, with replacement."""
        found: npt.NDArray[np.intp] = self._up_to.searchsorted(rng.random(n), side="right")
        return np.minimum(found, len(self.texts) - 1)

    def likeness(self, i: int, rng: np.random.Generator) -> Texts:
        """Row `i` as somebody might have sent it."""
        habits = self._habits
        artist, album, title = self.texts[i]
        label = int(self.labels[i])
        chance = rng.random(10).tolist()
        if chance[0] < habits.give_nothing:
            return NO_TEXT
        if not artist or chance[1] < habits.replace_artist:
            artist = self.texts[_pick(self._of_label[label], chance[8])][ARTIST]
        if chance[7] < habits.stray_artist:
            artist = self.texts[int(self.draw(1, rng)[0])][ARTIST]
        if not album or chance[2] < habits.replace_album:
            family = self._of_artist.get((self.texts[i][ARTIST], label), self._of_label[label])
            album = self.texts[_pick(family, chance[9])][TITLE]
        given = (
            artist if chance[3] < habits.give_artist else None,
            album if chance[4] < habits.give_album else None,
            title if chance[5] < habits.give_title else None,
        )
        kept: Texts = given if any(given) else self.texts[i]
        if chance[6] < habits.lose_accents:
            kept = (_without_accents(kept[0]), _without_accents(kept[1]), _without_accents(kept[2]))
        return kept


def _pick(rows: Sequence[int], chance: float) -> int:
    return rows[int(chance * len(rows))]


class Shelf:
    """Fields read once each, and laid out for batches: the same titles come by many times."""

    def __init__(self, reader: FieldReader) -> None:
        self.reader = reader
        self._place: dict[str | None, int] = {None: 0, "": 0}
        self._new: list[FieldRead] = [reader.nothing]
        self._laid = _laid_out([reader.nothing])[:0]

    def __call__(self, text: str | None) -> int:
        """Where a text stands; 0 where there is none."""
        place = self._place.get(text)
        if place is None:
            place = self._place[text] = len(self._laid) + len(self._new)
            self._new += self.reader([text])
        return place

    def batch(self, rows: Sequence[Texts], rng: np.random.Generator | None = None, drop_ngram: float = 0.0) -> Batch:
        """As serving reads; with `rng`, n-grams are dropped. Text without a letter is left out, as in serving."""
        places = np.array([[self(text) for text in row] for row in rows])  # (n, 3)
        if self._new:
            self._laid = self._laid + _laid_out(self._new)
            self._new = []
        laid = self._laid
        places = np.where(laid.has_letters[places].any(axis=1, keepdims=True), places, 0)
        flat = places.ravel()
        sizes = laid.ends[flat] - laid.starts[flat]
        offsets = sizes.cumsum() - sizes
        buckets = laid.buckets[np.arange(sizes.sum()) + np.repeat(laid.starts[flat] - offsets, sizes)]
        weights = np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes)
        if rng is not None and drop_ngram:
            weights *= (rng.random(len(weights)) >= drop_ngram) / (1.0 - drop_ngram)
        counted = self.reader.counted_rows(
            laid.evidence[places], laid.n_known[places], laid.scripts[places], laid.given[places]
        )
        return Batch(*map(torch.from_numpy, (buckets, offsets, weights.astype(np.float32), counted)))


@dataclass(frozen=True, slots=True)
class _Laid:
    """Many fields in a few arrays; of `buckets`, field i has [starts[i], ends[i])."""

    buckets: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]
    evidence: FloatArray
    n_known: FloatArray
    scripts: FloatArray
    given: FloatArray
    has_letters: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: slice) -> _Laid:
        """Some of the fields; all buckets stay."""
        parts = (getattr(self, name)[rows] for name in PER_FIELD)
        return _Laid(self.buckets, *parts)

    def __add__(self, more: _Laid) -> _Laid:
        shift = len(self.buckets)
        moved = replace(more, starts=more.starts + shift, ends=more.ends + shift)
        names = ("buckets", *PER_FIELD)
        return _Laid(*(np.concatenate([getattr(self, name), getattr(moved, name)]) for name in names))


PER_FIELD = ("starts", "ends", "evidence", "n_known", "scripts", "given", "has_letters")


def _laid_out(fields: Sequence[FieldRead]) -> _Laid:
    ends = np.cumsum([len(field.buckets) for field in fields])
    return _Laid(
        buckets=np.concatenate([field.buckets for field in fields]),
        starts=np.concatenate([[0], ends[:-1]]),
        ends=ends,
        evidence=np.array([field.evidence for field in fields], np.float32),
        n_known=np.array([field.n_known for field in fields], np.float32),
        scripts=np.array([field.scripts for field in fields], np.float32),
        given=np.array([field.given for field in fields], np.float32),
        has_letters=np.array([field.has_letters for field in fields]),
    )


def texts_of(metadata: Metadata) -> Texts:
    artist, album, title = (getattr(metadata, name) for name in METADATA_FIELDS)
    return artist, album, title


def is_latin(text: str) -> bool:
    """Whether no letter of it is of another script."""
    return all(sign < LATIN_END or LATIN_MORE[0] <= sign <= LATIN_MORE[1] for sign in text if sign.isalpha())


def latin_surplus(texts: Sequence[Texts], shares: Sequence[float]) -> Tensor:
    """(n, n_classes) to add to logits in training, so that the network's own are those of a mix where, if all letters are
    Latin, so much is left of each class's share (logit adjustment, Menon et al. 2021). Rows are drawn as often as before.
    """
    joined = ["".join(filter(None, row)) for row in texts]
    latin = torch.tensor([any(map(str.isalpha, text)) and is_latin(text) for text in joined])
    return latin[:, None] * -torch.tensor(shares).log()


def draw_probabilities(
    rows: Sequence[Row], mix: Float64, weights: Mapping[str, float], artist_power: float = 1.0, own: Float64 | None = None
) -> Float64:
    """(n_rows,): classes as `mix` says; within a class by the weight of the first prefix that fits the row's strength.

    An artist of n rows counts as n ** `artist_power` rows. `own`: (n_rows,) weights of the rows themselves, times those.
    Raises CorpusError if a class of the mix has no rows.
    """
    lacking = np.flatnonzero((count(rows, len(mix)) == 0) & (mix > 0))
    if lacking.size:
        raise CorpusError(f"no training rows of class number {lacking[0]}: add some, or train without the class")
    of_artist = Counter((row.metadata.artist, row.label) for row in rows)

    def weight(i: int) -> float:
        row = rows[i]
        by_strength = next((w for start, w in weights.items() if row.strength.startswith(start)), 1.0)
        n = of_artist[row.metadata.artist, row.label] if row.metadata.artist else 1
        return by_strength * float(n ** (artist_power - 1.0)) * (1.0 if own is None else float(own[i]))

    labels = np.array([row.label for row in rows])
    found = np.array([weight(i) for i in range(len(rows))])
    totals = np.bincount(labels, found, minlength=len(mix))
    return mix[labels] * found / totals[labels]  # type: ignore[no-any-return]


def read_phrases(codes: Sequence[str], held_out: Collection[str] = ()) -> list[Row]:
    """`phrases.json` as training rows with a title alone and the strength "phrase"; of the classes asked for.

    Words come alone, in pairs and in threes, shuffled once for all. What is a title in `held_out` is left out.
    """
    text = resources.files(__package__).joinpath("phrases.json").read_text(encoding="utf-8")
    kept_apart = {title.casefold() for title in held_out}
    rows = []
    for entry in json.loads(text)["languages"].values():
        if entry["label"] not in codes:
            continue
        titles = dict.fromkeys([*entry["phrases"], *_strewn(entry.get("words", "").split())])
        label = codes.index(entry["label"])
        rows += [
            Row(0, None, Metadata(title=title), label, "train", "phrase")
            for title in titles
            if title.casefold() not in kept_apart
        ]
    return rows


def _strewn(words: Sequence[str]) -> list[str]:
    rng = np.random.default_rng(0)
    found = list(words)
    for n in (2, 3):
        order = [words[i] for i in rng.permutation(len(words))]
        found += [" ".join(order[i : i + n]) for i in range(0, len(order), n)]
    return found


def _without_accents(text: str | None) -> str | None:
    """Letters without their marks, where Unicode composes them: what a careless keyboard makes of a Latin name."""
    if text is None or text.isascii():
        return text
    parts = (unicodedata.normalize("NFD", sign) for sign in text)
    return "".join(sign[0] if sign[0].isascii() else unicodedata.normalize("NFC", sign) for sign in parts)
