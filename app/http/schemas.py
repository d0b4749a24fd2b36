"""The public JSON, as pydantic models."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class LanguageProbability(BaseModel):
    code: str = Field(description="Class of the release: ISO 639-1, or `others`.")
    iso639_3: str | None = Field(description="null for a class that is no single language.")
    name: str
    probability: float = Field(description="Sums to 1 over the candidates.")
    raw_probability: float = Field(description="Before the restriction to candidates; sums to 1 over all classes.")


class ClassProbability(BaseModel):
    """A class that is no language: an artist, a genre."""

    code: str
    name: str
    probability: float


class TagProbability(ClassProbability):
    applies: bool = Field(description="Whether the probability is over the tag's own threshold.")


class Warned(BaseModel):
    code: Literal["truncated", "damaged"]
    detail: str
    at_seconds: float | None = Field(description="Where in the track, if known.")


class AudioUse(BaseModel):
    used: bool
    seconds: float | None = Field(description="Length of the track.")
    windows: int = Field(description="How many windows were listened to.")
    sung_windows: int | None = Field(
        None, description="In how many of them something is sung; null: the release cannot tell."
    )
    warnings: list[Warned] = Field(description="What is wrong with the file, though it can be heard.")
    reason: Literal["not_given", "not_trusted", "silent"] | None = Field(description="Why it was not used.")


class TextUse(BaseModel):
    used: bool
    fields: list[str] = Field(description="Which fields held text.")
    source: Literal["request", "tags"] | None = Field(description="Where they came from.")
    values: dict[str, str] | None = Field(description="What the file's tags say, where `source` is `tags`.")
    reason: Literal["not_given", "not_trusted", "no_text_features"] | None = Field(description="Why it was not used.")


class InputUse(BaseModel):
    used: bool
    source: Literal["request", "tags"] | None = Field(description="Where it came from.")
    reason: Literal["not_given", "no_text_features"] | None = Field(description="Why it was not used.")


class Modalities(BaseModel):
    """By modality; a family may add some of its own, each as InputUse."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, InputUse]

    audio: AudioUse
    text: TextUse


class Timed(BaseModel):
    """When a window is heard."""

    start_seconds: float
    seconds: float


class Moment(Timed):
    """One window of the timeline."""

    language: str
    probability: float
    languages: list[LanguageProbability]


class Explanation(BaseModel):
    """The answer from each modality alone; null where the modality was not used."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[LanguageProbability] | None]

    audio_only: list[LanguageProbability] | None
    text_only: list[LanguageProbability] | None = None


class ReleaseName(BaseModel):
    family: str
    release: str
    sha256: str = Field(description="Of the weights.")


class Timing(BaseModel):
    """Milliseconds by stage; 0 for a stage that did not run."""

    decode: float
    read: float
    queue: float
    model: float
    total: float


class Share(BaseModel):
    code: str
    share: float = Field(description="Of what is sung, by windows.")


class Answered(BaseModel):
    """What every answer about one track has."""

    modalities: Modalities
    model: ReleaseName
    timing_ms: Timing


class IdentifyResponse(Answered):
    """The answer about one track, by a release that knows languages."""

    language: str = Field(
        description="The best class; `und` when it stays under the release's threshold, `zxx` when nothing is sung, `mul` "
        "when several languages are."
    )
    probability: float = Field(description="Of the best class; with `zxx`, that nothing is sung.")
    languages: list[LanguageProbability] = Field(description="Best first.")
    sung: list[Share] | None = Field(description="The languages of `mul`, largest share first; else null.")
    artists: list[ClassProbability] | None = Field(None, description="Best first, by a release that knows artists too.")
    timeline: list[Moment] | None
    explanation: Explanation | None


class GenreMoment(Timed):
    """One window of the timeline, by a release that knows genres."""

    genre: str
    probability: float
    genres: list[ClassProbability]


class GenreResponse(Answered):
    """The answer about one track, by a release that knows genres."""

    genre: str
    probability: float
    genres: list[ClassProbability] = Field(description="Best first.")
    timeline: list[GenreMoment] | None
    explanation: dict[str, list[ClassProbability] | None] | None


class ArtistMoment(Timed):
    """One window of the timeline, by a release that knows artists alone."""

    artist: str
    probability: float
    artists: list[ClassProbability]


class ArtistResponse(Answered):
    """The answer about one track, by a release that knows artists alone."""

    artist: str
    probability: float
    artists: list[ClassProbability] = Field(description="Best first.")
    timeline: list[ArtistMoment] | None
    explanation: dict[str, list[ClassProbability] | None] | None


class TagsMoment(Timed):
    """One window of the timeline, by a release that knows tags."""

    tags: list[TagProbability]


class TagsResponse(Answered):
    """The answer about one track, by a release that knows tags."""

    tags: list[TagProbability] = Field(description="Best first; any number of them may apply.")
    timeline: list[TagsMoment] | None
    explanation: dict[str, list[TagProbability] | None] | None


OTHER_ANSWERS = {"genre": GenreResponse, "artist": ArtistResponse, "tags": TagsResponse}  # by their main member


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; README lists all.")
    remedy: str = Field(description="What to do about it.")
    request_id: str


class SwapRequest(BaseModel):
    """The release to serve from now on."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=130, description="`family/release`, or `family` for its newest release.")


class LanguageEntry(BaseModel):
    code: str
    iso639_3: str | None
    name: str


class LanguagesResponse(BaseModel):
    model: ReleaseName
    modalities: list[str] = Field(
        default=[],
        description="What the release reads: `audio`, `text` (artist, album, title), and its own, such as `lyrics`.",
    )
    languages: list[LanguageEntry]


class ModelEntry(BaseModel):
    family: str
    release: str
    sha256: str
    created: str
    serving: bool
    languages: list[str]
    metrics: dict[str, dict[str, Any]]


class ModelsResponse(BaseModel):
    models: list[ModelEntry]


class HealthResponse(BaseModel):
    status: str
    ready: bool
    reason: str | None
    checks: dict[str, bool]
    model: str | None
    uptime_seconds: float
