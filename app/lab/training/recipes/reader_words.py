"""Makes titles of words by their frequency in a language: names of real songs hold too few of them.

The frequencies are those of wordfreq 3 (data CC BY-SA 4.0): subtitles, web, Wikipedia, books, news. They count by a low
power, since the frequent words are learnt from songs anyway.
"""

from collections.abc import Collection, Sequence

import numpy as np

from app.domain import Metadata
from app.lab.corpus.catalogue import Row
from app.lab.training.recipes.reader_mixes import COMMON

MADE = "made"  # the strength of such rows
# The list of each class. Where the script tells nearly all, or words are not set apart, none is needed.
WORD_LISTS = {code: code for code in (
    *("en", "pt", "es", "fr", "de", "it", "pl", "sv", "nl", "da", "fi", "is", "hu", "ro", "sl", "cs", "sk", "tr", "lv"),
    *("lt", "ca", "id", "ms", "vi", "uk", "ru", "bg", "mk", "el", "he", "ar", "fa", "ur", "sh"),
)} | {"no": "nb", "tl": "fil"}  # fmt: skip
MOST_TITLES, MOST_TITLES_COMMON = 6_000, 40_000  # of a language, and of one in COMMON
LENGTHS = (0.3, 0.3, 0.2, 0.12, 0.08)  # shares of titles of one word, two and so on
LEAST_FREQUENCY = 2e-7
POWER = 0.5  # of a word's frequency, in drawing it
MOST_ELSEWHERE, MOST_ENGLISH = 3.0, 0.3  # times as frequent in another language, in English; texts everywhere quote it


def read_made(codes: Sequence[str], held_out: Collection[str] = ()) -> list[Row]:
    """Returns rows with a title alone, the same each time; titles in `held_out` are left out."""
    lists = {code: _frequencies(WORD_LISTS[code]) for code in WORD_LISTS}
    largest: dict[str, float] = {}
    for frequencies in lists.values():
        for word, frequency in frequencies.items():
            largest[word] = max(frequency, largest.get(word, 0.0))
    kept_apart = {title.casefold() for title in held_out}
    rows = []
    for label, code in enumerate(codes):
        if code not in lists:
            continue
        quoted = {} if code == "en" else lists["en"]
        own = {
            word: frequency
            for word, frequency in lists[code].items()
            if largest[word] <= MOST_ELSEWHERE * frequency and quoted.get(word, 0.0) <= MOST_ENGLISH * frequency
        }
        titles = _titles(own, MOST_TITLES_COMMON if code in COMMON else MOST_TITLES, np.random.default_rng(label))
        rows += [Row("", None, Metadata(title=title), label, "train", MADE) for title in titles if title not in kept_apart]
    return rows


def _frequencies(language: str) -> dict[str, float]:
    """Reads the words of a list of wordfreq that are not too rare, with their shares of all words."""
    from wordfreq import get_frequency_dict

    found = get_frequency_dict(language)
    return {word: frequency for word, frequency in found.items() if frequency >= LEAST_FREQUENCY and word.isalpha()}


def _titles(frequencies: dict[str, float], n: int, rng: np.random.Generator) -> list[str]:
    """Draws distinct titles, up to n."""
    weights = np.array(list(frequencies.values())) ** POWER
    lengths = rng.choice(np.arange(1, len(LENGTHS) + 1), size=n, p=LENGTHS)
    words = rng.choice(list(frequencies), size=lengths.sum(), p=weights / weights.sum())
    return list(dict.fromkeys(" ".join(part) for part in np.split(words, lengths.cumsum()[:-1])))
