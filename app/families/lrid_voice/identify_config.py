"""The numbers with which an `lrid_voice` identifies, as they stand in its manifest. `lab/training` fits them."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from app.families.contract import Name, Probability, Strict

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
    sure_reading: Probability = 0.8  # from it on names speak before lyrics that tell nothing, where there are no ears
    thresholds: dict[str, Probability]  # by mode: under it the answer is `und`

    @model_validator(mode="after")
    def _modes_are_known(self) -> Self:
        known = {"audio", *self.experts}
        for mode in self.thresholds:
            parts = mode.split("+")
            if parts != sorted(set(parts)) or not set(parts) <= known:
                raise ValueError(f"thresholds: {mode!r} is no mode; it should be of {sorted(known)}, sorted, joined by '+'")
        return self
