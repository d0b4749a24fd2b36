"""The vocabulary of the service. No torch and no FastAPI here: every other module may import this one.

Names follow Choi & Wang 2021: *listen* (audio), *read* (metadata), *identify* (both).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

MetadataField = Literal["artist", "album", "title"]
METADATA_FIELDS: tuple[MetadataField, ...] = ("artist", "album", "title")  # the paper's joining order, §3.2

UNDETERMINED = "und"  # ISO 639-3 code for "undetermined": the answer when confidence is under the threshold


@dataclass(frozen=True, slots=True)
class Language:
    """One class of a release."""

    code: str  # ISO 639-1 where there is one, else "others"
    iso639_3: str
    name: str  # in English


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is written about a track. `None` means not given."""

    artist: str | None = None
    album: str | None = None
    title: str | None = None

    @property
    def fields(self) -> tuple[MetadataField, ...]:
        """Names of the fields that hold more than white space, in the paper's order."""
        return tuple([name for name in METADATA_FIELDS if (text := getattr(self, name)) and not text.isspace()])

    @property
    def joined(self) -> str:
        """`artist album title` joined with single spaces, missing ones left out (paper §3.2)."""
        return " ".join(getattr(self, name).strip() for name in self.fields)


@dataclass(frozen=True, slots=True)
class Track:
    """What one request sent: encoded audio bytes, metadata, or both."""

    audio: bytes | None
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Window:
    """One excerpt of a track, ready to be listened to."""

    start_seconds: float
    seconds: float  # how much of the track it covers; shorter than the window when the track is
    samples: FloatArray  # (window_samples,) mono at the release's rate, padded if the track is short


@dataclass(frozen=True, slots=True)
class AudioWarning:
    """What is wrong with a file that can be heard nevertheless."""

    code: Literal["truncated", "damaged"]
    detail: str  # what was expected and what came; never content of the file
    at_seconds: float | None = None  # where in the track, if known


@dataclass(frozen=True, slots=True)
class Recording:
    """What the audio workers make of an encoded file."""

    seconds: float  # length of the whole track
    windows: tuple[Window, ...]  # in plan order; empty when everything that was looked at is silent
    format: str  # for logs and metrics only, e.g. "MP3"
    warnings: tuple[AudioWarning, ...] = ()
    tags: Metadata | None = None  # None: not asked for
    next_index: int = 0  # index in plan order of the first window that was not looked at
    planned: int = 0  # number of windows in the plan


@dataclass(frozen=True, slots=True)
class Reading:
    """Metadata as the network sees it."""

    vector: FloatArray  # (n_text_features,)
    informative: bool  # False when the text carries no language information (blank, digits only, ...)


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Calibrated probabilities over the classes of a release, in logit order."""

    windows: FloatArray  # (n_windows, n_classes); one row for a track without audio
    mean: FloatArray  # (n_classes,) the answer: mean over the windows


@dataclass(frozen=True, slots=True)
class Modality:
    """Whether a modality reached the network, and if not, why."""

    used: bool
    reason: Literal["not_given", "no_text_features", "silent"] | None = None


@dataclass(frozen=True, slots=True)
class Identification:
    """One answer, before it is put into JSON."""

    probabilities: Probabilities
    audio_only: FloatArray | None  # (n_classes,) filled when an explanation was asked for
    text_only: FloatArray | None
    audio: Modality
    text: Modality
    recording: Recording | None
    threshold: float  # the release's own for this mix of modalities
    seconds_by_stage: dict[str, float]  # decode, read, queue, model, total
    language_thresholds: Mapping[str, float] = field(default_factory=dict)  # of languages with one of their own
