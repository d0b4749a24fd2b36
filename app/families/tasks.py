"""What a release is asked: which language a song is sung in, or of which class it is. A task owns ranking and decision.

An answer is made of plain dicts: pydantic models cost ten times as much. Its form is `app.http.schemas.IdentifyResponse`
all the same: a test validates answers of every kind against it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from app.domain import MULTIPLE, NOTHING_SUNG, UNDETERMINED, FloatArray, Language, Mode, Scores
from app.errors import UnknownLanguage

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """Which part of an answer the client wants."""

    top_k: int | None = None  # best classes that are listed; None: all
    candidates: tuple[str, ...] | None = None  # classes that are possible; None: all
    written: bool = False  # a list of languages may be an orjson.Fragment: nothing but orjson sees the answer


class Task(Protocol):
    """Turns scores into the public answer."""

    @property
    def column(self) -> str:
        """The answer's main member, and the column of a catalogue that holds the truth: `language`, `genre`, `tags`."""

    def check(self, view: View) -> None:
        """Raises UnknownLanguage when a candidate is not a class of the release."""

    def answer(self, scores: Scores, mode: Mode, view: View) -> Json:
        """The members of the answer that say what was found, the main one among them."""

    def headline(self, answer: Json) -> tuple[str, float]:
        """The one class of an answer that metrics count and tables show, and its probability."""

    def moments(self, scores: Scores, mode: Mode, view: View) -> list[Json]:
        """Answer for each window likewise, without its time."""

    def ranked(self, probabilities: FloatArray, view: View) -> list[Json]:
        """(n_classes,) → the classes listed, best first."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When the best class is the answer; all in probability or share."""

    least: Mapping[Mode, float] = field(default_factory=dict)  # or the answer is `und`; a mode that is not named has 0
    least_by_language: Mapping[Mode, Mapping[str, float]] = field(default_factory=dict)  # instead, for these languages
    most_unsung: float = 1.0  # above, nothing is sung
    least_share: float = 1.0  # of each of two or more languages, for `mul`; 1: never


@dataclass(frozen=True, slots=True)
class Ranking:
    """The classes listed, best first."""

    places: list[int]  # rows in label order
    shares: list[float]  # probabilities over the candidates
    raw: list[float]  # probabilities over all classes


class LanguageTask:
    """Single label: the best class, or `und` (not sure), `zxx` (nothing is sung), `mul` (several languages)."""

    column = "language"

    def __init__(self, languages: Sequence[Language], bounds: Bounds) -> None:
        self._bounds = bounds
        self._rows = {language.code: row for row, language in enumerate(languages)}
        self._described = [(language.code, language.iso639_3, language.name) for language in languages]
        heads = [{"code": code, "iso639_3": iso639_3, "name": name} for code, iso639_3, name in self._described]
        self._heads = [b"}," + orjson.dumps(head)[:-1] + b',"probability":' for head in heads]
        self._all = np.arange(len(languages))

    def check(self, view: View) -> None:
        _check_candidates(view, self._rows)

    def headline(self, answer: Json) -> tuple[str, float]:
        return answer["language"], answer["probability"]

    def answer(self, scores: Scores, mode: Mode, view: View) -> Json:
        """`language`, `probability`, `languages`, and `sung`: shares of the languages where windows tell several."""
        ranking = self._ranking(scores.probabilities, view)
        language, probability = self._decide(ranking, scores.unsung, mode)
        sung = self._several(scores, view)
        if sung and language != NOTHING_SUNG:  # two languages in halves leave neither of them sure
            language, probability = MULTIPLE, ranking.shares[0]
        return {
            "language": language,
            "probability": probability,
            "languages": self._written(ranking) if view.written else self._listed(ranking),
            "sung": sung if language == MULTIPLE else None,
        }

    def moments(self, scores: Scores, mode: Mode, view: View) -> list[Json]:
        unsung = np.zeros(len(scores.windows)) if scores.windows_unsung is None else scores.windows_unsung
        moments = []
        for row, not_sung in zip(scores.windows, unsung.tolist(), strict=True):
            ranking = self._ranking(row, view)
            language, probability = self._decide(ranking, not_sung, mode)
            moments.append({"language": language, "probability": probability, "languages": self._listed(ranking)})
        return moments

    def ranked(self, probabilities: FloatArray, view: View) -> list[Json]:
        """(n_classes,) → `top_k` of the candidates, best first, renormalised over them, as LanguageProbability."""
        return self._listed(self._ranking(probabilities, view))

    def _ranking(self, probabilities: FloatArray, view: View) -> Ranking:
        rows = self._candidates(view)
        raw = probabilities[rows].astype(np.float64)
        total = np.add.reduce(raw)
        order = (-raw).argsort(kind="stable")[: view.top_k]  # ties in the release's order
        best = raw[order]
        shares = best / total if total > 0 else np.full(len(best), 1 / len(rows))
        return Ranking(rows[order].tolist(), *np.array((shares, best)).round(6).tolist())

    def _listed(self, ranking: Ranking) -> list[Json]:
        return [
            {"code": code, "iso639_3": iso639_3, "name": name, "probability": share, "raw_probability": own}
            for (code, iso639_3, name), share, own in zip(
                [self._described[i] for i in ranking.places], ranking.shares, ranking.raw, strict=True
            )
        ]

    def _written(self, ranking: Ranking) -> orjson.Fragment:
        """The JSON of `_listed`, at a third of its cost: only the numbers are new."""
        n = len(ranking.places)
        parts = [b',"raw_probability":'] * (4 * n)
        parts[0::4] = [self._heads[i] for i in ranking.places]
        parts[1::4] = orjson.dumps(ranking.shares)[1:-1].split(b",")
        parts[3::4] = orjson.dumps(ranking.raw)[1:-1].split(b",")
        return orjson.Fragment(b"[" + b"".join(parts)[2:] + b"}]")

    def _candidates(self, view: View) -> npt.NDArray[np.intp]:
        """Rows of the classes that are possible."""
        if view.candidates is None:
            return self._all
        return np.array([row for code, row in self._rows.items() if code in view.candidates], np.intp)

    def _decide(self, ranking: Ranking, unsung: float, mode: Mode) -> tuple[str, float]:
        if unsung > self._bounds.most_unsung:
            return NOTHING_SUNG, round(unsung, 6)
        code, probability = self._described[ranking.places[0]][0], ranking.shares[0]
        least = self._bounds.least_by_language.get(mode, {}).get(code, self._bounds.least.get(mode, 0.0))
        return (code if probability >= least else UNDETERMINED), probability

    def _several(self, scores: Scores, view: View) -> list[Json]:
        """The languages that are each over the stated share, largest first; empty unless there are two."""
        if scores.shares is None:
            return []
        shares: list[float] = scores.shares.tolist()
        over = [i for i in self._candidates(view).tolist() if shares[i] >= self._bounds.least_share]
        if len(over) < 2:
            return []
        over.sort(key=shares.__getitem__, reverse=True)
        return [{"code": self._described[i][0], "share": round(shares[i], 4)} for i in over]


class ClassTask:
    """Single label, and always an answer: the best class under `column`, all classes best first under `listed`."""

    def __init__(self, classes: Sequence[Language], column: str, listed: str) -> None:
        self.column = column
        self._listed = listed
        self._classes = tuple(classes)

    def check(self, view: View) -> None:
        _check_candidates(view, [one.code for one in self._classes])

    def answer(self, scores: Scores, mode: Mode, view: View) -> Json:
        """The best class, its probability, and the list."""
        return self._members(self.ranked(scores.probabilities, view))

    def headline(self, answer: Json) -> tuple[str, float]:
        return answer[self.column], answer["probability"]

    def moments(self, scores: Scores, mode: Mode, view: View) -> list[Json]:
        return [self._members(self.ranked(row, view)) for row in scores.windows]

    def _members(self, ranked: list[Json]) -> Json:
        return {self.column: ranked[0]["code"], "probability": ranked[0]["probability"], self._listed: ranked}

    def ranked(self, probabilities: FloatArray, view: View) -> list[Json]:
        """(n_classes,) → the classes listed, best first, as ClassProbability; candidates sum to 1."""
        rows = [i for i, one in enumerate(self._classes) if view.candidates is None or one.code in view.candidates]
        raw: list[float] = probabilities.tolist()
        total = self._total([raw[i] for i in rows])
        return [self._described(i, raw[i] / total) for i in sorted(rows, key=raw.__getitem__, reverse=True)[: view.top_k]]

    def _total(self, candidates: list[float]) -> float:
        """What the candidates' probabilities are shares of."""
        return sum(candidates) or 1.0

    def _described(self, row: int, probability: float) -> Json:
        return {"code": self._classes[row].code, "name": self._classes[row].name, "probability": round(probability, 6)}


LISTED = {"language": "languages", "genre": "genres", "artist": "artists"}  # what an answer lists, by its main member


@dataclass(frozen=True, slots=True)
class Headline:
    """An answer, or a window of its timeline, in short; whatever the release was asked."""

    label: str
    probability: float
    ranked: list[Json]  # what is listed, best first

    @property
    def runner_up(self) -> Json | None:
        """The best of the others; with `und` the leading language."""
        return next((one for one in self.ranked if one["code"] != self.label), None)


def headline_of(answer: Mapping[str, Any]) -> Headline:
    """From the JSON of an answer, as clients have it: its main label; of tags the most probable."""
    for column, listed in LISTED.items():
        if column in answer:
            return Headline(answer[column], answer["probability"], answer[listed])
    tags: list[Json] = answer["tags"]
    return Headline(tags[0]["code"], tags[0]["probability"], tags)


def _check_candidates(view: View, codes: Collection[str]) -> None:
    if unknown := [code for code in view.candidates or () if code not in codes]:
        raise UnknownLanguage(f"{unknown[0][:40]!r} is not among {', '.join(codes)}")
