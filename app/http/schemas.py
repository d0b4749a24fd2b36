"""The public JSON, as pydantic models, and how a request's fields become a Track and its Options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.domain import METADATA_FIELDS, Metadata, Track
from app.errors import InvalidOption
from app.families.contract import InputField
from app.families.fields import NO_FIELDS, checked_text, further_values


def _split(value: Any) -> Any:
    return [code.strip() for code in value.split(",")] if isinstance(value, str) else value


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected an integer, not a boolean")
    return value


Count = Annotated[int, BeforeValidator(_not_a_boolean), Field(ge=1)]


class Options(BaseModel):
    """Options of a request, as form fields, JSON members or query parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: Count | None = Field(None, description="Keep only the best k languages in the list.")
    languages: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = Field(
        None, min_length=1, description="Candidates, such as `en,fr`: the others get no probability."
    )
    windows: Count | None = Field(
        None, description="Listen to so many windows, if the track has them; default: until the answer is sure."
    )
    timeline: bool = Field(False, description="Listen to the whole track, and answer for each window as well.")
    explain: bool = Field(False, description="Also answer from the audio alone and from the text alone.")
    tags: bool = Field(True, description="Read the file's own tags when no metadata is given.")
    lyrics_from_tags: bool = Field(
        False, description="Read the lyrics in the file's tags when none are given, where the release reads lyrics."
    )


DEFAULT_OPTIONS = Options()
OPTION_NAMES = frozenset(Options.model_fields)
FIELD_NAMES = OPTION_NAMES | frozenset(METADATA_FIELDS)


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


class Moment(BaseModel):
    """One window of the timeline."""

    start_seconds: float
    seconds: float
    language: str
    probability: float
    languages: list[LanguageProbability]


class Explanation(BaseModel):
    """The answer from each modality alone; null where the modality was not used."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[LanguageProbability] | None]

    audio_only: list[LanguageProbability] | None
    text_only: list[LanguageProbability] | None = None


class OtherExplanation(BaseModel):
    """The same by a release that knows genres."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[ClassProbability] | None]


class TagsExplanation(BaseModel):
    """The same by a release that knows tags."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[TagProbability] | None]


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


class GenreMoment(BaseModel):
    """One window of the timeline, by a release that knows genres."""

    start_seconds: float
    seconds: float
    genre: str
    probability: float
    genres: list[ClassProbability]


class GenreResponse(Answered):
    """The answer about one track, by a release that knows genres."""

    genre: str
    probability: float
    genres: list[ClassProbability] = Field(description="Best first.")
    timeline: list[GenreMoment] | None
    explanation: OtherExplanation | None


class TagsMoment(BaseModel):
    """One window of the timeline, by a release that knows tags."""

    start_seconds: float
    seconds: float
    tags: list[TagProbability]


class TagsResponse(Answered):
    """The answer about one track, by a release that knows tags."""

    tags: list[TagProbability] = Field(description="Best first; any number of them may apply.")
    timeline: list[TagsMoment] | None
    explanation: TagsExplanation | None


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

    model: str = Field(
        max_length=130, description="`family/release`, or `family` for its newest release.", examples=["lrid_voice/2"]
    )


class LanguageEntry(BaseModel):
    code: str
    iso639_3: str | None
    name: str


class LanguagesResponse(BaseModel):
    model: ReleaseName
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


@dataclass(frozen=True, slots=True)
class IdentifyRequest:
    """A checked request."""

    track: Track
    options: Options


def build_request(
    fields: Mapping[str, Any], audio: bytes | None, max_characters: int, further: Mapping[str, InputField] = NO_FIELDS
) -> IdentifyRequest:
    """Fields by name (metadata, options and what the release reads further) and audio → a checked request.

    Raises InvalidMetadata, MetadataTooLong, InvalidOption.
    """
    if unknown := fields.keys() - FIELD_NAMES - further.keys():
        known = ", ".join(sorted(FIELD_NAMES | further.keys()))
        raise InvalidOption(f"unknown option {min(unknown)[:40]!r}; known: {known}")
    metadata = Metadata(*[checked_text(name, fields.get(name), max_characters) for name in METADATA_FIELDS])
    return IdentifyRequest(Track(audio, metadata, further_values(fields, further)), build_options(fields))


def build_options(fields: Mapping[str, Any]) -> Options:
    """Raises InvalidOption naming the option, its bounds and what came."""
    given = {name: value for name, value in fields.items() if name in OPTION_NAMES and value is not None and value != ""}
    if not given:
        return DEFAULT_OPTIONS
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise InvalidOption(f"{first['loc'][0]}: {first['msg']}; got {str(first['input'])[:40]!r}") from None
