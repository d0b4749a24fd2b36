"""What every family of models is to the rest of the service: a manifest, a reader, a listener, and an identifier.

The listener is the only part that runs on the device. The reader and `identify` are small enough for the CPU, run once
a request, and therefore cannot depend on what else is being served.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain import FloatArray, Language, Metadata, Probabilities, Reading

if TYPE_CHECKING:
    from torch import nn

Mode = Literal["both", "audio_only", "text_only"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]  # no separators: names become paths
Probability = Annotated[float, Field(ge=0, le=1)]
LEAST_TOP1, MOST_MEAN_ABS_DP = 0.99, 0.01  # of 8 bits against fp32


class Strict(BaseModel):
    """A part of a manifest: unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Label(Strict):
    """One class, in logit order."""

    code: Name
    iso639_3: str = Field(pattern=r"^[a-z]{3}$")
    name: str


class Temperatures(Strict):
    """Logits are divided by these before softmax, for each mix of modalities."""

    both: float = Field(1.0, gt=0)
    audio_only: float = Field(1.0, gt=0)
    text_only: float = Field(1.0, gt=0)


class Thresholds(Strict):
    """The best probability must reach these, or the answer is `und`."""

    both: Probability = 0.0
    audio_only: Probability = 0.0
    text_only: Probability = 0.0
    by_language: dict[Name, Probability] = Field(default_factory=dict)  # where text was read, instead of its mode's

    def of_languages(self, mode: Mode) -> Mapping[str, float]:
        """Those that count instead of the mode's, by code."""
        return {} if mode == "audio_only" else self.by_language


class Agreement(Strict):
    """How near 8 bits come to fp32 on windows that were not calibrated on. Less than this is not shipped."""

    windows: int = Field(ge=1)
    top1: float = Field(ge=LEAST_TOP1, le=1)  # share of windows with the same best class
    mean_abs_dp: float = Field(ge=0, le=MOST_MEAN_ABS_DP)  # mean |Δp| over windows and classes


class Int8(Strict):
    """What it takes to run the trunk in 8 bits: ranges of what is rounded. What is not named stays in floats."""

    ranges: dict[str, tuple[float, float]] = Field(min_length=1)  # least and largest, by the layer's name
    calibration: str  # what the ranges were measured on, in words
    compared_on: str  # what the agreement was measured on, in words
    agreement: dict[Literal["audio_only", "both"], Agreement] = Field(min_length=1)

    @model_validator(mode="after")
    def _ranges_have_a_width(self) -> Int8:
        if wrong := sorted(name for name, (low, high) in self.ranges.items() if not low < high):
            raise ValueError(f"int8: the range of {wrong[0]!r} is empty")
        return self


class Manifest(Strict):
    """The part of `manifest.json` that every family has."""

    family: Name
    release: Name
    created: date
    labels: list[Label] = Field(min_length=2)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of weights.safetensors
    training: dict[str, Any]  # data, settings, seeds, class prior: what it was trained on
    metrics: dict[Mode, dict[str, Any]]
    temperature: Temperatures
    thresholds: Thresholds
    int8: Int8 | None = None  # made by `lrid releases quantise`

    @model_validator(mode="after")
    def _codes_are_distinct(self) -> Self:
        codes = [label.code for label in self.labels]
        if len(set(codes)) != len(codes):
            raise ValueError("labels: codes must be distinct")
        return self

    @cached_property
    def languages(self) -> tuple[Language, ...]:
        """The classes in logit order."""
        return tuple(Language(label.code, label.iso639_3, label.name) for label in self.labels)


def mode_of(has_audio: bool, reading: Reading | None) -> Mode:
    """Which calibration applies. Text without language information is read, but does not count as text."""
    if not has_audio:
        return "text_only"
    return "both" if reading is not None and reading.informative else "audio_only"


class Model(Protocol):
    """A loaded release."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def window_samples(self) -> int: ...

    @property
    def n_audio_features(self) -> int: ...

    @property
    def listener(self) -> nn.Module:
        """(n, window_samples) float32 → (n, n_audio_features) float32, in evaluation mode, on the CPU in fp32."""

    def read(self, metadata: Metadata) -> Reading:
        """Metadata → text features. Deterministic and thread-safe."""

    def identify(self, features: FloatArray | None, reading: Reading | None) -> Probabilities:
        """(n, n_audio_features) and/or a reading → probabilities. `None` is a missing modality: zeros are fed."""
