"""Human speech, sung: recordings of real voices in the place of espeak-ng's, everything else as in `clip`.

A recording gives the corpus that it comes from away, and corpora go with languages. So each clip draws its settings (room,
band, noise, level, formants) as any other, whole sources are kept for validation, and the clips are a domain of their own:
in training they compete only among the classes that have human voices (see `Row.domain`).
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile
import soxr

from app.lab.training.synthesis.clip import SETTINGS, TEXT, Clip, ClipName, perform
from app.lab.training.synthesis.errors import SpeechUnusable
from app.lab.training.synthesis.lines import Split
from app.lab.training.synthesis.recording import mix, record
from app.lab.training.synthesis.settings import ClipSettings, draw_settings
from app.lab.training.synthesis.voices import SAMPLE_RATE_HZ, Samples

COLUMNS = ("file", "label", "language", "source", "speaker")
SPOKEN_SHARE = 0.2  # clips that are recorded as they were spoken


@dataclass(frozen=True)
class Voices:
    """Recordings of one speaker."""

    language: str  # ISO 639-1
    source: str
    speaker: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class HumanPlan:
    """Everything that decides the sound of a clip."""

    name: ClipName
    language: str
    voice: str  # source and speaker
    file: Path
    sung: bool
    settings: ClipSettings

    domain: ClassVar[str] = "human"

    @property
    def line(self) -> str:
        """What is sung: known by the file only."""
        return self.file.stem

    def render(self) -> Clip:
        """Its sound; nobody knows the phonemes.

        Raises:
            SynthesisError: pyworld is missing, or the recording cannot be read.
        """
        speech = _load(self.file)
        if self.sung:
            return Clip(perform(speech, self.settings), None)
        n_samples = int(self.settings.seconds * SAMPLE_RATE_HZ)
        spoken = np.tile(speech, -(-n_samples // len(speech)))[:n_samples]
        rng = np.random.default_rng(self.settings.seed)
        return Clip(record(mix(spoken, None, self.settings), self.settings, rng), None)


@dataclass(frozen=True)
class HumanVoices:
    """All speakers, by split and label."""

    speakers: dict[tuple[Split, str], tuple[Voices, ...]]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Classes with voices in both splits, in the order of the index."""
        found = dict.fromkeys(label for _, label in self.speakers)
        return tuple(label for label in found if self._has(label))

    def _has(self, label: str) -> bool:
        return ("train", label) in self.speakers and ("valid", label) in self.speakers

    def plan(self, name: ClipName) -> HumanPlan:
        """Draw settings, a speaker (by the root of the number of recordings: few have many), and a recording."""
        settings = draw_settings(name.split, name.rng(SETTINGS))
        rng = name.rng(TEXT)
        speakers = self.speakers[name.split, name.label]
        weights = np.sqrt([len(speaker.files) for speaker in speakers])
        voices = speakers[int(rng.choice(len(speakers), p=weights / weights.sum()))]
        file = voices.files[int(rng.integers(len(voices.files)))]
        sung = bool(rng.random() >= SPOKEN_SHARE)
        return HumanPlan(name, voices.language, f"{voices.source}/{voices.speaker}", file, sung, settings)


def load_voices(index: Path, held_out_sources: Collection[str]) -> HumanVoices:
    """Read an index of recordings: a CSV with at least COLUMNS, `file` relative to it.

    All of `held_out_sources` is validation, all else training.

    Raises:
        SpeechUnusable: it cannot be read, lacks a column, or no class has voices in both splits.
    """
    files: dict[tuple[Split, str, str, str, str], list[Path]] = {}
    try:
        with index.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or [])]
            if missing:
                raise SpeechUnusable(f"{index} has no column {', '.join(missing)}.")
            for row in reader:
                split: Split = "valid" if row["source"] in held_out_sources else "train"
                key = (split, row["label"], row["language"], row["source"], row["speaker"])
                files.setdefault(key, []).append(index.parent / row["file"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpeechUnusable(f"The index of speech cannot be read: {error}.") from error
    speakers: dict[tuple[Split, str], list[Voices]] = {}
    for (split, label, language, source, speaker), paths in files.items():
        speakers.setdefault((split, label), []).append(Voices(language, source, speaker, tuple(paths)))
    voices = HumanVoices({key: tuple(found) for key, found in speakers.items()})
    if not voices.labels:
        raise SpeechUnusable(f"{index}: no class has recordings both of the held-out sources and of others.")
    return voices


def _load(file: Path) -> Samples:
    """(n,), mono at SAMPLE_RATE_HZ."""
    try:
        samples, rate = soundfile.read(file, dtype="float64", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise SpeechUnusable(f"{file} cannot be read: {error}.") from error
    if not len(samples):
        raise SpeechUnusable(f"{file} is empty.")
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE_HZ), dtype=np.float64)
