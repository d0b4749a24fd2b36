"""From fields to a checked request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import Metadata
from app.errors import InvalidMetadata, InvalidOption, MetadataTooLong
from app.families.fields import MAX_COMBINING_RUN
from app.http.options import Options, build_options, build_request


def request_of(fields: dict[str, Any]) -> Metadata:
    return build_request(fields, None, max_characters=20).track.metadata


def test_fields_and_options() -> None:
    built = build_request({"title": "La vie", "artist": b"Piaf", "top_k": "3", "album": None}, b"RIFF", 20)
    assert built.track.metadata == Metadata(artist="Piaf", title="La vie")
    assert built.track.audio == b"RIFF"
    assert built.options == Options(top_k=3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Options()),
        ({"top_k": "", "languages": "", "timeline": ""}, Options()),
        ({"languages": "en, fr ,ko"}, Options(languages=("en", "fr", "ko"))),
        ({"languages": "en,fr, "}, Options(languages=("en", "fr"))),
        ({"languages": ["en", "fr"]}, Options(languages=("en", "fr"))),
        ({"timeline": "true", "explain": "0"}, Options(timeline=True)),
        ({"timeline": True, "explain": False}, Options(timeline=True)),
        ({"top_k": 2.0}, Options(top_k=2)),
        ({"windows": " 4 "}, Options(windows=4)),
    ],
)
def test_options(given: dict[str, Any], expected: Options) -> None:
    assert build_options(given) == expected


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": -3}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"windows": "x" * 100}, "windows"),
        ({"languages": [1]}, "languages"),
        ({"languages": []}, "languages"),
        ({"timeline": "maybe"}, "timeline"),
        ({"explain": [True]}, "explain"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        build_options(given)
    assert refused.value.detail.startswith(f"{named}: ")
    assert len(refused.value.detail) < 200


def test_bounds_are_inclusive() -> None:
    assert request_of({"title": "é" * 20}).title == "é" * 20
    run = "e" + "\u0301" * MAX_COMBINING_RUN
    assert build_request({"title": run * 3}, None, 1000).track.metadata.title == run * 3
    with pytest.raises(InvalidMetadata, match="combining"):
        build_request({"title": run + "\u0301"}, None, 1000)


@given(st.dictionaries(st.sampled_from(["artist", "album", "title"]), st.none() | st.text(max_size=25) | st.binary()))
def test_any_text_is_kept_as_it_is_or_refused(fields: dict[str, Any]) -> None:
    try:
        metadata = request_of(fields)
    except (InvalidMetadata, MetadataTooLong):
        return
    for name, value in fields.items():
        kept = getattr(metadata, name)
        assert kept == (value.decode() if isinstance(value, bytes) else value)
        assert kept is None or "\0" not in kept
