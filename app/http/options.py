"""How a request's fields become a Track and its Options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.domain import METADATA_FIELDS, Metadata, Track
from app.errors import InvalidOption
from app.families.contract import InputField
from app.families.fields import NO_FIELDS, checked_text, further_values


def _split(value: Any) -> Any:
    return [part.strip() for part in value.strip().removesuffix(",").split(",")] if isinstance(value, str) else value


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected an integer, not a boolean")
    return value


Count = Annotated[int, Field(ge=1), BeforeValidator(_not_a_boolean)]


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


@dataclass(frozen=True, slots=True)
class IdentifyRequest:
    """A checked request."""

    track: Track
    options: Options


def build_request(
    fields: Mapping[str, Any], audio: bytes | None, max_characters: int, further: Mapping[str, InputField] = NO_FIELDS
) -> IdentifyRequest:
    """Fields by name, and audio → a checked request. Raises InvalidMetadata, MetadataTooLong, InvalidOption."""
    if unknown := fields.keys() - FIELD_NAMES - further.keys():
        known = ", ".join(sorted(FIELD_NAMES | further.keys()))
        raise InvalidOption(f"unknown option {min(unknown)[:40]!r}; known: {known}")
    metadata = Metadata(*[checked_text(name, fields.get(name), max_characters) for name in METADATA_FIELDS])
    return IdentifyRequest(Track(audio, metadata, further_values(fields, further)), build_options(fields))


def build_options(fields: Mapping[str, Any]) -> Options:
    """Raises InvalidOption naming the option, its bounds and what came."""
    given = {name: value for name in OPTION_NAMES & fields.keys() if (value := _stripped(fields[name])) not in (None, "")}
    if not given:
        return DEFAULT_OPTIONS
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidOption(f"{first['loc'][0]}: {first['msg']}; got {str(first['input'])[:40]!r}") from None


def first_fault(errors: Sequence[Any]) -> str:
    """What pydantic finds wrong first, by the names that lead to it; never its value."""
    return f"{'.'.join(map(str, errors[0]['loc']))[:40]}: {errors[0]['msg']}"
