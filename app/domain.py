"""The vocabulary of the service. No torch and no FastAPI here: every other module may import this one.

Names follow Choi & Wang 2021: *listen* (audio), *read* (metadata), *identify* (both).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

MetadataField = Literal["artist", "album", "title"]
METADATA_FIELDS: tuple[MetadataField, ...] = ("artist", "album", "title")  # the paper's joining order, §3.2

UNDETERMINED = "und"  # ISO 639-2 code for "undetermined": the answer when the probability is under the threshold
NOTHING_SUNG = "zxx"  # ISO 639-2 code for "no linguistic content"
MULTIPLE = "mul"  # ISO 639-2 code for "multiple languages"

AUDIO, TEXT = "audio", "text"  # every answer describes these modalities; a family names its others
LYRICS = "lyrics"  # one of those; a file's tags may hold it
Mode = frozenset[str]  # the modalities that count in an answer


@dataclass(frozen=True, slots=True)
class Language:
    """One class of a release."""

    code: str  # ISO 639-1 where there is one, else "others"
    iso639_3: str | None  # None for a class that is no single language
    name: str  # in English


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is written about a track. `None` means not given."""

    artist: str | None = None
    album: str | None = None
    title: str | None = None
    fields: tuple[MetadataField, ...] = field(init=False, compare=False, repr=False)
    """Names of the fields that hold more than white space, in the paper's order."""

    def __post_init__(self) -> None:
        given = [name for name in METADATA_FIELDS if (text := getattr(self, name)) and not text.isspace()]
        object.__setattr__(self, "fields", tuple(given))

    @property
    def joined(self) -> str:
        """`artist album title` joined with single spaces, missing ones left out (paper §3.2)."""
        return " ".join(getattr(self, name).strip() for name in self.fields)


@dataclass(frozen=True, slots=True)
class Track:
    """What one request sent: encoded audio bytes, metadata, or both, and what further modalities of a family read."""

    audio: bytes | None
    metadata: Metadata
    further: Mapping[str, object] = field(default_factory=dict)  # by modality, such as "lyrics"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a track, in track time."""

    start_seconds: float
    stop_seconds: float

    @property
    def seconds(self) -> float:
        return self.stop_seconds - self.start_seconds


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
    lyrics: str | None = None  # of the file's tags, as they are written; None: not asked for, or none
    next_index: int = 0  # index in plan order of the first window that was not looked at
    planned: int = 0  # number of windows in the plan


@dataclass(frozen=True, slots=True)
class Reading:
    """A modality that is read on the CPU, as the identifying part sees it."""

    vector: FloatArray  # (n_features,)
    informative: bool  # False when it says nothing about the language (blank, digits only, ...)


@dataclass(frozen=True, slots=True)
class Scores:
    """What the modalities say together: calibrated probabilities over the classes of a release, in label order."""

    probabilities: FloatArray  # (n_classes,) of the track
    windows: FloatArray  # (n_windows, n_classes); no rows without audio
    unsung: float = 0.0  # probability that nothing is sung
    windows_unsung: FloatArray | None = None  # (n_windows,); None: the release cannot tell
    shares: FloatArray | None = None  # (n_classes,) of what is sung, where that is surely several languages
    enough: bool = False  # further windows would hardly change the answer
    further: Mapping[str, FloatArray] = field(default_factory=dict)  # (n,) of further questions, by name, such as artists


Reason = Literal["not_given", "not_trusted", "no_text_features", "silent"]


@dataclass(frozen=True, slots=True)
class ModalityUse:
    """Whether a modality reached the answer, and if not, why."""

    used: bool
    reason: Reason | None = None
    source: Literal["request", "tags"] | None = None  # None: it was not read


@dataclass(frozen=True, slots=True)
class Stage:
    """Something that was done for a request."""

    name: str
    started: float  # time.perf_counter(), seconds
    seconds: float
    failed: bool = False  # it ended with the error that ended the request
