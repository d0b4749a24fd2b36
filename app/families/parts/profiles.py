"""langdetect's language profiles as one table, and the n-grams of a text that it knows.

The rules are those of langdetect 1.0.9 (`Detector.append`, `Detector.cleaning_text`, `NGram.add_char`), written so that
no step loops over languages and no character passes through more than a table.
"""

import json
import re
from collections.abc import Iterable
from itertools import chain
from operator import add
from pathlib import Path

import langdetect
import numpy as np
import numpy.typing as npt
from langdetect.detector import Detector
from langdetect.utils.ngram import NGram

from app.errors import ReleaseError

Float64Array = npt.NDArray[np.float64]

PROFILES = Path(langdetect.__file__).parent / "profiles"  # one JSON file for each language, named by its code
MAX_CHARACTERS = 10_000  # Detector.max_text_length
LATIN = re.compile("[A-z]+")  # as langdetect counts it: with the six signs between Z and a
# langdetect means to leave out Latin Extended Additional, but compares a number with its name: Vietnamese letters count.
NOT_LATIN = re.compile("[\u0300-\U0010ffff]")
PLANE_CHARACTERS = 0x10000  # langdetect normalises nothing outside of the Basic Multilingual Plane


def langdetect_languages() -> tuple[str, ...]:
    """Codes of the installed langdetect's languages, sorted: the order of the first dimensions of a reading."""
    return tuple(sorted(path.name for path in PROFILES.iterdir() if not path.name.startswith(".")))


def cleaned(text: str) -> str:
    """`text` as langdetect looks at it: no addresses, Vietnamese composed, at most 10,000 characters of it, and
    without its Latin letters if there are more than twice as many of another script.
    """
    if "://" in text:
        text = Detector.URL_RE.sub(" ", text)
    if "@" in text:
        text = Detector.MAIL_RE.sub(" ", text)
    if text.isascii():
        return text[:MAX_CHARACTERS]
    text = NGram.normalize_vi(text)[:MAX_CHARACTERS]
    n_not_latin = len(NOT_LATIN.findall(text))
    if n_not_latin and 2 * sum(map(len, LATIN.findall(text))) < n_not_latin:
        text = LATIN.sub("", text)
    return text


class Profiles:
    """Probability of each n-gram (1 to 3 characters) in each language; about 40 MB."""

    def __init__(self, languages: Iterable[str]) -> None:
        """`languages`: the columns, as a manifest lists them. Raises ReleaseError unless they are langdetect's, in order."""
        self.languages, installed = tuple(languages), langdetect_languages()
        if self.languages != installed:
            raise ReleaseError(f"text languages should be langdetect's {list(installed)}, but are {list(self.languages)}")
        self.normal = _Normal()  # for str.translate
        profiles = [json.loads((PROFILES / code).read_text(encoding="utf-8")) for code in self.languages]
        known = dict.fromkeys(chain.from_iterable(profile["freq"] for profile in profiles))
        self.rows = {ngram: row for row, ngram in enumerate(filter(_can_occur, known))}
        self.probabilities = np.zeros((len(self.rows), len(profiles)))
        for column, profile in enumerate(profiles):
            for ngram, n in profile["freq"].items():
                if ngram in self.rows:
                    self.probabilities[self.rows[ngram], column] = n / profile["n_words"][len(ngram) - 1]

    def ngrams(self, text: str) -> Iterable[str]:
        """Every n-gram that may be looked up, in langdetect's order; `text` is cleaned. Not all of them are known."""
        padded = "  " + text.translate(self.normal)
        before = padded[1:]
        # Within a run of capitals langdetect skips all but the first; for longer n-grams _can_occur sees to that.
        singles: Iterable[str] = padded[2:]
        if not padded.islower():
            singles = [
                " " if char.isupper() and last.isupper() else char for last, char in zip(before, padded[2:], strict=False)
            ]
        pairs = list(map(add, before, padded[2:]))
        return chain.from_iterable(zip(singles, pairs, map(add, padded, pairs), strict=True))

    def excerpt(self, text: str) -> dict[str, Float64Array]:
        """langdetect's own `word_lang_prob_map`, for the n-grams of `text`, which is cleaned, alone."""
        return {ngram: self.probabilities[self.rows[ngram]] for ngram in self.ngrams(text) if ngram in self.rows}


class _Normal(dict[int, str]):
    """For str.translate: a character as langdetect counts it, looked up when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = chr(code) if code >= PLANE_CHARACTERS else str(NGram.normalize(chr(code)))
        return self[code]


def _can_occur(ngram: str) -> bool:
    """Whether langdetect ever looks the n-gram up: none starts anew at a space, none ends within a run of capitals."""
    if not 1 <= len(ngram) <= NGram.N_GRAM or ngram in (" ", "  ") or (ngram[1:2] == " " and len(ngram) == NGram.N_GRAM):
        return False
    return not (ngram[-1].isupper() and ngram[-2:-1].isupper())
