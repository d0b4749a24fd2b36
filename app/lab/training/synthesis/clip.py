"""One clip: what it will be (`plan_clip`, cheap) and its sound (`render`, some 0.3 s). Both depend on the name only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from app.lab.training.synthesis.accompaniment import play_band
from app.lab.training.synthesis.lines import SPLITS, Grammar, Split, line_id, pick
from app.lab.training.synthesis.melody import draw_melody
from app.lab.training.synthesis.phonemes import Phonemes, spoken_phonemes, sung_phonemes
from app.lab.training.synthesis.recording import mix, record
from app.lab.training.synthesis.settings import ClipSettings, draw_settings
from app.lab.training.synthesis.singing import sing
from app.lab.training.synthesis.voices import Samples, speak

LINES_PER_CLIP = 4  # enough syllables for the quickest melody


@dataclass(frozen=True)
class ClipName:
    """Which clip: the seed of the corpus, split, class label and number within the class."""

    seed: int
    split: Split
    label: str
    number: int

    @property
    def path(self) -> str:
        """Path relative to the corpus."""
        return f"audio/{self.split}/{self.label}/{self.number:06d}.flac"

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of this clip for one purpose, apart from those of any other clip and purpose."""
        label = int.from_bytes(self.label.encode(), "big")
        return np.random.default_rng([self.seed, SPLITS.index(self.split), label, self.number, purpose])


SETTINGS, TEXT, METADATA = 0, 1, 2  # purposes of random numbers


@dataclass(frozen=True)
class Clip:
    """What was made."""

    samples: Samples  # (seconds * SAMPLE_RATE_HZ,), mono, in [-1, 1]
    phonemes: Phonemes | None  # what is sung when, if that is known


@dataclass(frozen=True)
class ClipPlan:
    """Everything that decides the sound of a clip."""

    name: ClipName
    language: str  # ISO 639-1
    voice: str  # of espeak-ng, e.g. "sv+f2"
    text: str
    settings: ClipSettings

    domain: ClassVar[str] = "synthetic"

    @property
    def line(self) -> str:
        """What is sung, short."""
        return line_id(self.text)

    def render(self) -> Clip:
        """Its sound and its phonemes.

        Raises:
            SynthesisError: espeak-ng or pyworld is missing or fails.
        """
        settings = self.settings
        speech = speak(self.text, self.voice, settings.words_per_minute, settings.speech_pitch)
        spoken = spoken_phonemes(self.text, self.voice, settings)
        return Clip(perform(speech, settings), sung_phonemes(speech, spoken, settings))


def plan_clip(name: ClipName, grammars: tuple[Grammar, ...]) -> ClipPlan:
    """Draw settings and text. `grammars` are those of the label; each is as likely."""
    settings = draw_settings(name.split, name.rng(SETTINGS))
    rng = name.rng(TEXT)
    grammar = pick(grammars, rng)
    text = ", ".join(grammar.line(name.split, rng) for _ in range(LINES_PER_CLIP))
    accent = grammar.voices[int(settings.accent * len(grammar.voices))]
    return ClipPlan(name, grammar.language, f"{accent}+{settings.voice.variant}", text, settings)


def perform(speech: Samples, settings: ClipSettings) -> Samples:
    """Any speech, sung and recorded: (seconds * SAMPLE_RATE_HZ,), mono, in [-1, 1]. `speech` is mono at SAMPLE_RATE_HZ.

    Raises:
        WorldMissing: pyworld is not installed.
    """
    rng = np.random.default_rng(settings.seed)
    melody = draw_melody(settings, rng)
    voice = sing(speech, melody, settings, rng)
    band = None if np.isinf(settings.voice_to_band_db) else play_band(settings, rng)
    return record(mix(voice, band, settings), settings, rng)
