"""Read: lyrics → how probable each class is, by langdetect's profiles and the n-gram reader of names.

The profiles know 55 languages and count every n-gram of an excerpt; the reader knows all classes of the release and reads
a few lines as it would a title. Both count as likelihoods: the class mix of the reader is divided out, and a language
without a profile counts in theirs as the best. Reading is bounded, however long a song is.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from app.domain import LYRICS, FloatArray, Metadata, Reading, Track
from app.errors import ReleaseError
from app.families.contract import TextField
from app.families.parts.configs import LyricsConfig
from app.families.parts.ngrams.fields import has_letters
from app.families.parts.ngrams.loops import IndexArray
from app.families.parts.ngrams.reader import NgramReader
from app.families.parts.probabilities import softmax

_STAMP = re.compile(r"\[\d{1,3}:\d{2}(?:[.:]\d{1,3})?\]|<\d{1,3}:\d{2}(?:[.:]\d{1,3})?>")  # LRC: of a line, of a word
# "[Chorus]", "[ar: Artist]", "(x2)": what transcribers add. Round brackets hold what a second voice sings.
_MARK = re.compile(r"\[[^\[\]\n]*\]|【[^【】\n]*】|\(\s*(?:[xX×]\s*\d+|\d+\s*[xX×])\s*\)")
_HEADING = re.compile(
    r"(?:verse|chorus|refrain|bridge|intro|outro|pre-?chorus|hook|strophe|couplet|coro|estribillo|refrão|ritornello|refren|"
    r"припев|куплет)\s*\d*\s*:?",
    re.IGNORECASE,
)
_LINE_BREAK = re.compile(r"[\r\n\u0085\u2028\u2029]+")
_MOST_LINES = 1000  # that are looked at


class LyricsBranch:
    """What is sung, as text; implements `contract.InputBranch`. Deterministic, and any number of threads may call."""

    def __init__(self, config: LyricsConfig, reader: NgramReader) -> None:
        """Raises ReleaseError if a language is said to be of a class that the release does not have."""
        self.field = TextField(config.max_characters)
        self._config, self._reader = config, reader
        self._class_of_profile = _class_of_profile(config.classes, reader.config.languages, list(reader.config.class_mix))
        self._log_mix = np.log(reader.class_mix)

    def read(self, track: Track) -> Reading | None:
        text = track.further.get(LYRICS)
        if not isinstance(text, str) or not text or text.isspace():
            return None
        lines = sung_lines(text)
        if not any(map(has_letters, lines)):
            return Reading(np.full(len(self._log_mix), 1 / len(self._log_mix), np.float32), informative=False)
        few = " ".join(excerpt(lines, self._reader.config.max_characters))  # if they hold no letter, the reader says its mix
        by_reader = np.log(np.maximum(self._reader(Metadata(title=few)).vector, np.float32(1e-8))) - self._log_mix
        return Reading(softmax(self._by_profiles(lines) + by_reader), informative=True)

    def _by_profiles(self, lines: Sequence[str]) -> FloatArray:
        """(n_classes,) logits, at most 0."""
        most = self._config.read_characters
        evidence, n_known = self._reader.fields.explained(" ".join(excerpt(lines, most)), most)
        if not n_known:
            return np.zeros(len(self._log_mix), np.float32)
        found = np.full(len(self._log_mix) + 1, -np.inf, np.float32)
        np.maximum.at(found, self._class_of_profile, (evidence - evidence.max()) / np.float32(np.sqrt(n_known)))
        return np.where(np.isneginf(found), np.float32(0), found * np.float32(self._config.profile_exponent))[:-1]


def sung_lines(text: str) -> list[str]:
    """The different lines of lyrics in order, without time stamps, marks of sections and headings."""
    plain = _MARK.sub(" ", _STAMP.sub(" ", text))
    lines = dict.fromkeys(map(str.strip, _LINE_BREAK.split(plain)))
    return [line for line in list(lines)[:_MOST_LINES] if line and not _HEADING.fullmatch(line)]


def excerpt(lines: Sequence[str], most_characters: int) -> list[str]:
    """Lines of so many characters together, as evenly spread over the song as whole lines allow; the last may be cut."""
    total = sum(map(len, lines)) + len(lines)
    step = max(1.0, total / most_characters)
    chosen: list[str] = []
    room, place = most_characters, 0.0
    while room > 0 and place < len(lines):
        line = lines[int(place)][:room]
        chosen.append(line)
        room -= len(line) + 1
        place += step
    return chosen


def _class_of_profile(classes: Mapping[str, str], languages: Sequence[str], labels: Sequence[str]) -> IndexArray:
    """(n_languages,) the class of each of langdetect's languages; len(labels) for one that belongs to none."""
    if unknown := sorted(set(classes.values()) - set(labels)):
        raise ReleaseError(f"lyrics.classes: {unknown[0]!r} is no class of the release")
    rows = {label: row for row, label in enumerate(labels)}
    return np.array([rows.get(classes.get(language, language), len(rows)) for language in languages], np.int64)
