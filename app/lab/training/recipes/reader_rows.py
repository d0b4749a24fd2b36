"""Draws and changes rows of metadata for the training of the n-gram reader.

A row's source must not reveal its language: charts of French rap have no albums here, anime themes no artists. So missing
albums are invented from titles, missing artists borrowed within the language, and given ones dropped, at random.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain import FloatArray, Metadata
from app.families.contract import Strict
from app.families.parts.names import clean
from app.families.parts.ngrams.config import N_FIELDS
from app.families.parts.ngrams.fields import FieldReader, has_letters
from app.families.parts.ngrams.loops import weigh_fields
from app.lab.corpus.catalogue import Row, artist_key, read_catalogue
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import REST
from app.lab.training.recipes.reader_words import MADE
from app.lab.training.voice_head.settings import class_label

ARTIST, ALBUM, TITLE = range(N_FIELDS)  # METADATA_FIELDS
Texts = tuple[str, str, str]  # "": not given
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
# How much a row counts beside others of its class; 1 where nothing is said.
LATIN_WEIGHTS = {"ja": 0.1, "ko": 0.1}  # of rows in Latin letters alone, by class
SOURCES = dict.fromkeys(("dali_v1", "eurovision", "junior_esc"), 3.0)  # those with the surest labels
ARTIST_POWER = 0.5  # an artist of n rows counts as n ** power
# By the first prefix of the label's strength that fits.
STRENGTHS = {"strong-": 1.0, "strong": 4.0, "lyrics-langdetect": 2.0, "weak": 0.5, "script": 0.5, "phrase": 3.0}
LATIN_END = "\u0250"  # of Latin with its extensions A and B
LATIN_MORE = ("\u1e00", "\u1eff")  # Latin extended additional
KANA, HAN = re.compile("[\u3040-\u30ff]"), re.compile("[\u3400-\u9fff]")
HAN_SYLLABLE = re.compile(r"(?<=[a-z])(?=[A-Z])")  # anyascii writes each Han character as a capitalised syllable


class AugmentConfig(Strict):
    """Says how likely each field is given, whatever the row has, and how else a drawn row is changed."""

    give_artist: float = 0.65
    give_album: float = 0.6
    give_title: float = 0.9
    give_nothing: float = 0.02  # the answer to learn is the class mix
    replace_artist: float = 0.1  # by another of the same class, as where there is none
    stray_artist: float = 0.15  # by one of any class: most artists are unknown to the reader
    replace_album: float = 0.25  # by the title of another row of the artist, else of the class
    lose_accents: float = 0.2
    romanise: float = 0.3  # of rows in another script: written in Latin letters, by transliteration
    drop_ngram: float = 0.35  # each of them; the rest counts for more


def read_rows(path: Path, codes: Sequence[str]) -> list[Row]:
    """Reads rows with text, cleaned as requests are. Raises CorpusError naming the first that cannot be used."""
    rows = read_catalogue(path, codes, rest=REST if REST in codes else None)
    cleaned = [replace(row, metadata=clean(row.metadata)) for row in rows]
    if not (found := [row for row in cleaned if row.metadata.fields]):
        raise CorpusError(f"{path} holds no rows with an artist, an album or a title")
    return found


def texts_of(row: Row) -> Texts:
    metadata = row.metadata
    return metadata.artist or "", metadata.album or "", metadata.title or ""


def numbered(rows: Sequence[Row], numbers: dict[str, int]) -> Indices:
    """Returns the numbers of the rows' texts, (n, 3); new texts get the next ones."""
    found = [[numbers.setdefault(text, len(numbers)) for text in texts_of(row)] for row in rows]
    return np.array(found, np.int64).reshape(-1, N_FIELDS)


def read_phrases(codes: Sequence[str], held_out: Collection[str] = ()) -> list[Row]:
    """Rows of `phrases.json`: phrases, and words alone, in pairs and in threes, but for titles in `held_out`."""
    text = resources.files("app.lab.training").joinpath("phrases.json").read_text(encoding="utf-8")
    kept_apart = {title.casefold() for title in held_out}
    by_language = json.loads(text)["languages"]
    labels = {language: class_label(language, codes) for language in by_language}
    return [
        Row("", None, Metadata(title=title), codes.index(labels[language]), "train", "phrase")
        for language, entry in by_language.items()
        if labels[language] in codes
        for title in dict.fromkeys([*entry["phrases"], *_strewn(entry.get("words", "").split())])
        if title.casefold() not in kept_apart
    ]


def _strewn(words: Sequence[str]) -> list[str]:
    rng = np.random.default_rng(0)
    found = list(words)
    for n in (2, 3):
        order = [words[i] for i in rng.permutation(len(words))]
        found += [" ".join(order[i : i + n]) for i in range(0, len(order), n)]
    return found


def is_latin(text: str) -> bool:
    """Tells whether no letter is of another script."""
    return all(sign < LATIN_END or LATIN_MORE[0] <= sign <= LATIN_MORE[1] for sign in text if sign.isalpha())


def without_accents(text: str) -> str:
    """Removes the marks of Latin letters, as a careless keyboard does."""
    if text.isascii():
        return text
    parts = (unicodedata.normalize("NFD", sign) for sign in text)
    return "".join(sign[0] if sign[0].isascii() else unicodedata.normalize("NFC", sign) for sign in parts)


def romanised(text: str) -> str:
    """Writes a text in Latin letters, unless it is Japanese with Han characters: they do not say how they are read."""
    if is_latin(text) or (KANA.search(text) and HAN.search(text)):
        return text
    from anyascii import anyascii

    return HAN_SYLLABLE.sub(" ", anyascii(text))


@dataclass(frozen=True, slots=True)
class FieldTable:
    """Holds many distinct texts, taken apart once; row 0 is the text that is not given."""

    buckets: npt.NDArray[np.int32]  # of text i: from starts[i] to starts[i + 1]
    starts: Indices  # (n + 1,)
    evidence: FloatArray  # (n, n_languages)
    n_known: FloatArray  # (n,)
    scripts: FloatArray  # (n, n_scripts)
    letters: Flags  # (n,)
    latin: Flags  # (n,)

    @classmethod
    def of(cls, reader: FieldReader, texts: Sequence[str]) -> "FieldTable":
        """Takes texts apart; `texts[0]` is ""."""
        fields = [reader(text) for text in texts]
        sizes = [len(field.buckets) for field in fields]
        return cls(
            np.concatenate([field.buckets for field in fields]).astype(np.int32),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.array([field.evidence for field in fields], np.float32),
            np.array([field.n_known for field in fields], np.float32),
            np.array([field.scripts for field in fields], np.float32),
            np.array([has_letters(text) for text in texts]),
            np.array([is_latin(text) for text in texts]),
        )

    def informative(self, places: Indices) -> Flags:
        """Tells whether rows have letters, (n,)."""
        return np.asarray(self.letters[places].any(axis=1))

    def all_latin(self, places: Indices) -> Flags:
        """Tells whether rows have letters, and none but Latin ones, (n,)."""
        return np.asarray(self.informative(places) & self.latin[places].all(axis=1))

    def counted(self, places: Indices) -> FloatArray:
        """Turns (n, 3) texts into (n, n_counted), the inputs that are not learnt."""
        n = len(places)
        evidence, known = self.evidence[places], self.n_known[places]
        views = np.zeros((n, 2 * (N_FIELDS + 1) * evidence.shape[2]), np.float32)
        for row in range(n):
            weigh_fields(evidence[row], known[row], views[row])
        return np.concatenate([views, self.scripts[places].reshape(n, -1), (places > 0).astype(np.float32)], axis=1)

    def ngrams(self, places: Indices) -> tuple[Indices, Indices, FloatArray]:
        """Turns (n, 3) texts into rows of the table (k,), where each field begins (3 n,), and weights (k,)."""
        flat = places.ravel()
        sizes = self.starts[flat + 1] - self.starts[flat]
        offsets = sizes.cumsum() - sizes
        found = self.buckets[np.arange(sizes.sum()) + np.repeat(self.starts[flat] - offsets, sizes)].astype(np.int64)
        return found, offsets, np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes).astype(np.float32)


class RowSampler:
    """Draws training rows and augments them. Texts are numbers of rows of `table`."""

    def __init__(self, rows: Sequence[Row], reader: FieldReader, probabilities: Float64, config: AugmentConfig) -> None:
        self._config = config
        self._up_to = probabilities.cumsum() / probabilities.sum()
        numbers = {"": 0}  # of texts, as they come
        self._texts = numbered(rows, numbers)  # (n_rows, 3)
        texts = list(numbers)
        self._plain = np.array([numbers.setdefault(without_accents(text), len(numbers)) for text in texts])  # of each text
        self._roman = np.array([numbers.setdefault(romanised(text), len(numbers)) for text in texts])
        self.table = FieldTable.of(reader, list(numbers))
        self.labels = np.array([row.label for row in rows])
        self._classes = _Groups(self.labels)
        artists: dict[tuple[str, int], int] = {}
        keys = [(artist_key(row.metadata.artist) or f"\0{i}", row.label) for i, row in enumerate(rows)]
        self._artist = np.array([artists.setdefault(key, len(artists)) for key in keys])
        self._artists = _Groups(self._artist)

    def draw(self, n: int, rng: np.random.Generator) -> Indices:
        """Draws (n,) rows, with replacement."""
        found: Indices = self._up_to.searchsorted(rng.random(n), side="right")
        return np.minimum(found, len(self._texts) - 1)

    def augmented(self, rows: Indices, rng: np.random.Generator) -> Indices:
        """Turns (n,) rows into (n, 3) texts as a client might send them."""
        config, n = self._config, len(rows)
        chance = rng.random((7, n))
        own = self._texts[rows]
        filled = np.stack([self._artists_of(rows, rng), self._albums_of(rows, rng), own[:, TITLE]], axis=1)
        rates = np.array([[config.give_artist], [config.give_album], [config.give_title]])
        given = np.where((chance[:3] < rates).T, filled, 0)
        kept = np.where((given > 0).any(axis=1, keepdims=True), given, own)
        kept = np.where((chance[3] < config.romanise)[:, None], self._roman[kept], kept)
        losing = (chance[4] < config.lose_accents)[:, None] & (kept < len(self._plain))
        kept = np.where(losing, self._plain[np.where(losing, kept, 0)], kept)
        kept[chance[5] < config.give_nothing] = 0
        kept[~self.table.informative(kept)] = 0
        return kept

    def _artists_of(self, rows: Indices, rng: np.random.Generator) -> Indices:
        config, chance, own = self._config, rng.random((3, len(rows))), self._texts[rows, ARTIST]
        borrowed = self._texts[self._classes.pick(self.labels[rows], chance[0]), ARTIST]
        artist = np.where((own == 0) | (chance[1] < config.replace_artist), borrowed, own)
        stray = self._texts[self.draw(len(rows), rng), ARTIST]
        return np.asarray(np.where(chance[2] < config.stray_artist, stray, artist))

    def _albums_of(self, rows: Indices, rng: np.random.Generator) -> Indices:
        chance, own, artist = rng.random((2, len(rows))), self._texts[rows, ALBUM], self._artist[rows]
        of_artist = self._artists.pick(artist, chance[0])
        of_class = self._classes.pick(self.labels[rows], chance[0])
        other = np.where(self._artists.sizes[artist] > 1, of_artist, of_class)
        return np.asarray(np.where((own == 0) | (chance[1] < self._config.replace_album), self._texts[other, TITLE], own))


class _Groups:
    """Picks members of numbered groups at random."""

    def __init__(self, group: Indices) -> None:
        self._members = np.argsort(group, kind="stable")
        self.sizes = np.bincount(group)
        self._starts = self.sizes.cumsum() - self.sizes

    def pick(self, groups: Indices, chance: Float64) -> Indices:
        """Picks (n,) members by groups and numbers in [0, 1)."""
        return np.asarray(self._members[self._starts[groups] + (chance * self.sizes[groups]).astype(np.int64)])


def draw_probabilities(rows: Sequence[Row], mix: Mapping[str, float], made_share: float = 0.0) -> Float64:
    """Returns (n_rows,): classes as `mix` says; inside a class, sure labels and rare artists count for more.

    Made titles have `made_share` of each class that has other rows, too.
    """
    of_artist = Counter((artist_key(row.metadata.artist), row.label) for row in rows)
    codes = list(mix)

    def weight(row: Row) -> float:
        found = next((w for start, w in STRENGTHS.items() if row.strength.startswith(start)), 1.0)
        found *= SOURCES.get(row.cells.get("source", ""), 1.0)
        artist = artist_key(row.metadata.artist)
        found *= float(of_artist[artist, row.label] ** (ARTIST_POWER - 1.0)) if artist else 1.0
        rare = LATIN_WEIGHTS.get(codes[row.label], 1.0)
        return found * rare if rare != 1.0 and is_latin(row.metadata.joined) else found

    found = np.array([weight(row) for row in rows])
    groups = np.array([2 * row.label + (row.strength == MADE) for row in rows])  # by class: real, made
    sums = np.bincount(groups, found, minlength=2 * len(codes)).reshape(-1, 2)
    parts = np.where(sums > 0, [1.0 - made_share, made_share], 0.0)
    parts *= np.array(list(mix.values()))[:, None] / parts.sum(axis=1, keepdims=True).clip(min=1e-12)
    probabilities: Float64 = (parts / sums.clip(min=1e-12)).ravel()[groups] * found
    return probabilities / probabilities.sum()  # type: ignore[no-any-return]
