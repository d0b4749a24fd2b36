"""Values that a request gives: metadata, and what a release reads further (`InputBranch.field`)."""

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic_core import from_json

from app.domain import FloatArray
from app.errors import InvalidMetadata, InvalidOption, MetadataTooLong
from app.families.contract import InputField, TextField

MAX_COMBINING_RUN = 30  # Unicode's Stream-Safe Text Format (UAX #15) allows 30 non-starters in a row
JSON_BYTES_PER_CHARACTER = 12  # of JSON: a surrogate pair, \uXXXX\uXXXX
BYTES_PER_NUMBER = 32  # of JSON: sign, 17 digits, exponent, comma and white space
NO_FIELDS: Mapping[str, InputField] = MappingProxyType({})


def most_bytes(field: InputField) -> int:
    """The longest JSON form of a value."""
    if isinstance(field, TextField):
        return field.max_characters * JSON_BYTES_PER_CHARACTER
    return field.length * BYTES_PER_NUMBER


def further_values(given: Mapping[str, Any], fields: Mapping[str, InputField]) -> dict[str, str | FloatArray]:
    """What was given for those fields, checked; blank text was not.

    Raises InvalidMetadata, MetadataTooLong, InvalidOption.
    """
    found: dict[str, str | FloatArray] = {}
    for name, field in fields.items():
        value = given.get(name)
        if isinstance(field, TextField):
            text = checked_text(name, value, field.max_characters)
            if text and not text.isspace():
                found[name] = text
        elif value is not None:
            found[name] = _vector(name, value, field.length)
    return found


def _vector(name: str, value: Any, length: int) -> FloatArray:
    """(length,) of a list of numbers, or of a JSON array in a form field."""
    if isinstance(value, bytes):
        try:
            value = from_json(value, allow_inf_nan=False)
        except ValueError:
            raise InvalidOption(f"{name}: expected a JSON array of {length} numbers") from None
    if not isinstance(value, list) or len(value) != length or not all(map(_is_number, value)):
        came = f", got {len(value)}" if isinstance(value, list) and len(value) != length else ""
        raise InvalidOption(f"{name}: expected {length} numbers{came}")
    with np.errstate(over="ignore"):
        vector = np.array(value, np.float64).astype(np.float32)
    if not np.isfinite(vector).all():
        raise InvalidOption(f"{name}: expected finite numbers of float32")
    return vector


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_MAY_COMBINE = re.compile(f"[\u0300-\U0010ffff]{{{MAX_COMBINING_RUN + 1}}}")  # all that do are beyond U+02FF


def checked_text(name: str, value: Any, max_characters: int) -> str | None:
    """None if it is not given. Raises InvalidMetadata, MetadataTooLong."""
    if value is None:
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidMetadata(f"{name} is not UTF-8: byte {error.start} cannot be decoded") from None
    if not isinstance(value, str):
        raise InvalidMetadata(f"{name} must be a string, got {type(value).__name__}")
    if len(value) > max_characters:
        raise MetadataTooLong(f"{name} has {len(value)} characters, at most {max_characters} are accepted")
    if _NOT_TEXT.search(value):
        raise InvalidMetadata(f"{name} holds a NUL character or a lone surrogate")
    if not value.isascii() and _longest_combining_run(value) > MAX_COMBINING_RUN:
        raise InvalidMetadata(f"{name} has more than {MAX_COMBINING_RUN} combining marks in a row")
    return value


def _longest_combining_run(text: str) -> int:
    if not _MAY_COMBINE.search(text):  # in most lyrics: 16,000 characters one by one take a millisecond
        return 0
    longest = run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        longest = max(longest, run)
    return longest
