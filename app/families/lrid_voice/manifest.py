"""The numbers of an `lrid_voice` release, as they stand in its manifest. `lab/training` fits those of identifying."""

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from app.audio.spec import WindowSpec
from app.families.contract import Manifest, Name, Probability, Strict
from app.families.parts.configs import LyricsConfig, WhisperConfig
from app.families.parts.ngrams.config import NgramConfig

Share = Annotated[float, Field(gt=0, le=1)]
Exponent = Annotated[float, Field(ge=0)]


class LanguageToken(Strict):
    """One language of the listener's, in the order of its rows."""

    code: Name  # the listener's own, e.g. "jw"
    label: Name  # the class of the release that it counts for
    bias: float  # nats, added to its logit


class SungConfig(Strict):
    """Whether anything is sung. The weights of a window's 512 features are the tensor `identify.sung`."""

    window_bias: float  # a window with a logit over 0 counts as sung
    song_scale: float = Field(gt=0)  # of the logarithm of the windows' mean odds ...
    confidence_scale: float = Field(ge=0)  # ... and of the best language's probability in the windows together
    song_bias: float
    least_nothing: Probability = 0.5  # from this probability that nothing is sung on, the answer is `zxx`


class SeveralConfig(Strict):
    """When a song counts as sung in several languages (`mul`)."""

    sure: Probability  # a window counts for its best language from this probability on, if it is sung
    least_share: Share  # of the counted windows, for each of the languages
    least_windows: int = Field(ge=1)  # of each of the languages


class ExpertConfig(Strict):
    """A posterior that comes from text, such as the names of a song or its lyrics.

    Beside the ears it counts as `((1 - doubt) q + doubt) ** exponent`, where q is the posterior over the class mix it was
    trained with to the power `mix_exponent`, over its largest value. So `doubt` bounds how far it can speak against a
    language.
    """

    exponent: Exponent
    mix_exponent: Exponent = 1.0
    doubt: Share
    alone_exponent: float = Field(1.0, gt=0)  # of the posterior itself where nothing else is known
    class_mix: dict[Name, float] = Field(min_length=2)  # by class, over 0


class IdentifyConfig(Strict):
    """Features of windows, posteriors of readers → languages. A mode is its modalities, sorted: "audio", "audio+text"."""

    tokens: list[LanguageToken] = Field(min_length=2)
    window_scale: float = Field(gt=0)  # of a window's logits
    entropy_weight: float = Field(ge=0)  # a window weighs exp(-entropy_weight * its entropy in nats)
    song_scale: float = Field(gt=0)  # of the weighted mean of the windows' log-probabilities, without text
    stop_bound: Probability  # listening stops at this probability of the best language
    stop_bound_read: Probability | None = None  # the same where something was read as well; None: the same bound
    sung: SungConfig
    several: SeveralConfig
    experts: dict[Name, ExpertConfig] = Field(default_factory=dict)  # by modality
    sure_reading: Probability = 0.8  # without ears, names at least this sure answer where lyrics alone would be `und`
    thresholds: dict[str, Probability]  # by mode: under it the answer is `und`

    @model_validator(mode="after")
    def _modes_are_known(self) -> Self:
        known = {"audio", *self.experts}
        for mode in self.thresholds:
            parts = mode.split("+")
            if parts != sorted(set(parts)) or not set(parts) <= known:
                raise ValueError(f"thresholds: {mode!r} is no mode; it should be of {sorted(known)}, sorted, joined by '+'")
        return self


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
        return replace(self.listen.window, positions=tuple(self.windows.positions))
