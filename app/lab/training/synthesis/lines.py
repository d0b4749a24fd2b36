"""Text to sing: lines made of the project's own word lists (`lines.json`, CC0) by small templates.

Held out by word: every sixth entry of each list belongs to validation. A training line holds none of these; a
validation line holds at least one, so no line of one split can occur in the other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Literal, TypeVar, cast

import numpy as np

Split = Literal["train", "valid"]
SPLITS: tuple[Split, ...] = ("train", "valid")

_T = TypeVar("_T")

SLOTS = "SVOA"  # subject, verb, object, adverbial
HELD_OUT_EVERY = 6  # entries; one in six of every word list is sung in validation only
HELD_OUT_SHARE = 0.6  # share of the slots of a validation line that take a held-out word


@dataclass(frozen=True)
class Grammar:
    """How lines of one language are made."""

    language: str  # ISO 639-1
    label: str  # class of the release
    voices: tuple[str, ...]  # espeak-ng voices (accents) of the language
    templates: tuple[str, ...]  # strings over SLOTS
    words: dict[str, tuple[str, ...]]  # slot -> entries

    @cached_property
    def sung_in_training(self) -> dict[str, tuple[str, ...]]:
        return {s: tuple(w for i, w in enumerate(ws) if i % HELD_OUT_EVERY != 2) for s, ws in self.words.items()}

    @cached_property
    def held_out(self) -> dict[str, tuple[str, ...]]:
        return {s: ws[2::HELD_OUT_EVERY] for s, ws in self.words.items()}

    def line(self, split: Split, rng: np.random.Generator) -> str:
        """One line of the split."""
        template = pick(self.templates, rng)
        novel = np.zeros(len(template), dtype=bool)
        if split == "valid":
            novel = rng.random(len(template)) < HELD_OUT_SHARE
            novel[rng.integers(len(template))] = True
        sources = (self.held_out if is_new else self.sung_in_training for is_new in novel)
        return " ".join(pick(source[slot], rng) for slot, source in zip(template, sources, strict=True))


def pick(options: tuple[_T, ...], rng: np.random.Generator) -> _T:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def load_grammars() -> dict[str, tuple[Grammar, ...]]:
    """Grammars by class label, in the order of the data file."""
    text = resources.files(__package__).joinpath("lines.json").read_text(encoding="utf-8")
    by_label: dict[str, list[Grammar]] = {}
    for language, entry in cast(dict[str, dict[str, object]], json.loads(text)["languages"]).items():
        strings = {k: tuple(cast(list[str], v)) for k, v in entry.items() if k != "label"}
        label = cast(str, entry["label"])
        words = {slot: strings[slot] for slot in SLOTS}
        grammar = Grammar(language, label, strings["voices"], strings["templates"], words)
        by_label.setdefault(label, []).append(grammar)
    return {label: tuple(grammars) for label, grammars in by_label.items()}


def line_id(text: str) -> str:
    """Short stable name of a text: 10 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
