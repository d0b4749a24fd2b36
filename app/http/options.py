"""How a request's fields become a Track and its Options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.domain import METADATA_FIELDS, Metadata, Track
from app.errors import InvalidOption
from app.families.contract import InputField
from app.families.fields import NO_FIELDS, checked_text, further_values
from app.serving.options import Options

__all__ = ["Options"]  # for clients too


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


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
