"""What every family of models is to the rest of the service. README.md beside this file says how to add one.

A model has branches, one for each modality. The audio branch runs on the device: windows go in, features come out. All
others run once per request on the event loop, so each must take less than a millisecond. `combine` joins what is there;
the task turns scores into an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.audio.spec import WindowSpec
from app.domain import AUDIO, TEXT, FloatArray, Language, Mode, Reading, Scores, Track

if TYPE_CHECKING:
    from torch import Tensor

    from app.families.tasks import Task

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]  # no separators: names become paths
Probability = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Backend = Literal["torch", "openvino"]


class Strict(BaseModel):
    """A part of a manifest: unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Label(Strict):
    """One class, in the order of the scores."""

    code: Name
    iso639_3: str | None = Field(None, pattern=r"^[a-z]{3}$")  # None for a class that is no single language
    name: str

    @property
    def language(self) -> Language:
        return Language(self.code, self.iso639_3, self.name)


class Manifest(Strict):
    """The part of `manifest.json` that every family has."""

    family: Name
    release: Name
    created: date
    labels: list[Label] = Field(min_length=2)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of weights.safetensors
    training: dict[str, Any]  # data, settings, seeds, class prior: what it was trained on
    metrics: dict[str, dict[str, Any]]  # by the name of the mode

    @model_validator(mode="after")
    def _codes_are_distinct(self) -> Self:
        codes = [label.code for label in self.labels]
        if len(set(codes)) != len(codes):
            raise ValueError("labels: codes must be distinct")
        return self

    @cached_property
    def languages(self) -> tuple[Language, ...]:
        """The classes in the order of the scores."""
        return tuple(label.language for label in self.labels)


def mode_name(mode: Mode) -> str:
    """How manifests, reports and the API name a mode: `audio_only`, `text_only`, `both`, and `audio+lyrics` and so on."""
    if mode == {AUDIO, TEXT}:
        return "both"
    return f"{next(iter(mode))}_only" if len(mode) == 1 else "+".join(sorted(mode))


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a listener runs."""

    device: Literal["cpu", "cuda"]
    precision: Precision
    backend: Backend = "torch"
    threads: int = 1  # that share one window; CPU only


Listen = Callable[["Tensor"], "Tensor"]  # (n, window_samples) float32 → (n, n_features) float32, on the target's device


class Listener(Protocol):
    """The part of an audio branch that runs on the device."""

    @property
    def n_features(self) -> int: ...

    def precisions(self, backend: Backend) -> tuple[Precision, ...]:
        """What it may run in on a CPU, most wanted first; `fp32` is among them."""

    def prepare(self, target: Target) -> Listen:
        """Build what runs there; the listener itself stays as it is. Raises ReleaseError where it cannot."""

    def forget(self) -> None:
        """Free the weights, once the prepared function runs; nothing can be prepared afterwards."""


@dataclass(frozen=True, slots=True)
class AudioBranch:
    """How a release listens."""

    window: WindowSpec
    listener: Listener
    first_windows: int | None = None  # decoded and listened to before `Scores.enough` is asked; None: all
    most_windows: int | None = None  # of a track, unless the client asks for another number; None: the setting's


@dataclass(frozen=True, slots=True)
class TextField:
    """Text that a request gives."""

    max_characters: int


@dataclass(frozen=True, slots=True)
class VectorField:
    """Finite numbers that a request gives."""

    length: int


InputField = TextField | VectorField


class InputBranch(Protocol):
    """A modality other than audio: read once per request on the event loop."""

    @property
    def field(self) -> InputField | None:
        """What a request may send under the modality's name, for `Track.further`; None: the branch reads the metadata."""

    def read(self, track: Track) -> Reading | None:
        """None if the track does not have it. Deterministic, thread-safe, under a millisecond."""


class ManyBranch(InputBranch, Protocol):
    """A branch that reads many tracks faster than one by one: for tables of a million names."""

    def read_many(self, tracks: Sequence[Track]) -> list[Reading | None]:
        """The results of `read` for each, up to rounding."""


class Model(Protocol):
    """A loaded release."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def audio(self) -> AudioBranch | None:
        """None: the release does not listen, so no audio is decoded for it."""

    @property
    def inputs(self) -> Mapping[str, InputBranch]:
        """By modality; `text` is artist, album and title, where the release reads them."""

    @property
    def task(self) -> Task:
        """Turns scores into an answer."""

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """Join features by modality: `audio` as (n_windows, n_features), the others as (n_features,).

        A modality that was not given is left out. `mode` holds the modalities that count: those with features, less those
        that are not informative.
        """


def further_fields(model: Model) -> dict[str, InputField]:
    """What a request may send for modalities of the family's own, by name."""
    return {name: branch.field for name, branch in model.inputs.items() if branch.field is not None}


def read_each(branch: InputBranch, tracks: Sequence[Track]) -> Sequence[Reading | None]:
    """Read many tracks, all at once if the branch can."""
    if len(tracks) == 1 or not hasattr(branch, "read_many"):  # isinstance takes 11 µs
        return [branch.read(track) for track in tracks]
    readings: Sequence[Reading | None] = branch.read_many(tracks)
    return readings
