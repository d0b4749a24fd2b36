"""The numbers of an `lrid_voice` release, as they stand in its manifest."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from app.audio.spec import WindowSpec
from app.families.contract import Manifest, Strict
from app.families.lrid_voice.identify_config import IdentifyConfig
from app.families.parts.configs import LyricsConfig, WhisperConfig
from app.families.parts.ngrams.config import NgramConfig


class WindowPlan(Strict):
    """Which windows of a song are listened to, until the answer is sure."""

    positions: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)  # shares of a song, in order of listening
    first_windows: int = Field(ge=1)  # decoded in one go
    most_windows: int = Field(ge=1)  # of a song, unless a client asks for more


class VoiceManifest(Manifest):
    """`manifest.json` of the family `lrid_voice`."""

    listen: WhisperConfig
    windows: WindowPlan
    read: NgramConfig
    lyrics: LyricsConfig | None = None  # None: the release reads none
    identify: IdentifyConfig

    @model_validator(mode="after")
    def _the_parts_have_the_same_classes(self) -> Self:
        if list(self.read.class_mix) != [label.code for label in self.labels]:
            raise ValueError("read.class_mix: its classes should be the labels, in the same order")
        return self

    @property
    def window(self) -> WindowSpec:
        return WindowSpec(
            self.listen.sample_rate_hz,
            self.listen.window_samples,
            padding="silence",
            positions=tuple(self.windows.positions),
        )
