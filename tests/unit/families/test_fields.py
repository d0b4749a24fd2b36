"""Fields of a family's own: text and vectors, as JSON members and as form fields."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import Metadata
from app.errors import InvalidMetadata, InvalidOption, LridError, MetadataTooLong
from app.families.contract import InputField, TextField, VectorField
from app.families.fields import further_values, most_bytes
from app.http.options import build_request

FIELDS: dict[str, InputField] = {"lyrics": TextField(10), "listeners": VectorField(3)}


def test_values_reach_the_track_by_name() -> None:
    given = {"title": "La vie", "lyrics": b"Des yeux", "listeners": b"[1, 0.5, -2e1]", "top_k": 3}
    track = build_request(given, None, 20, FIELDS).track
    assert track.metadata == Metadata(title="La vie")
    assert track.further["lyrics"] == "Des yeux"
    vector = track.further["listeners"]
    assert isinstance(vector, np.ndarray)
    assert (vector.dtype, vector.tolist()) == (np.float32, [1.0, 0.5, -20.0])


@pytest.mark.parametrize("given", [{}, {"lyrics": None, "listeners": None}, {"lyrics": " \n"}, {"lyrics": b""}])
def test_what_is_not_given_is_not_there(given: dict[str, Any]) -> None:
    assert further_values(given, FIELDS) == {}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"lyrics": "x" * 11}, MetadataTooLong),
        ({"lyrics": b"caf\xe9"}, InvalidMetadata),
        ({"lyrics": ["a"]}, InvalidMetadata),
        ({"listeners": [1, 2]}, InvalidOption),
        ({"listeners": [1, 2, 3, 4]}, InvalidOption),
        ({"listeners": [1, 2, None]}, InvalidOption),
        ({"listeners": [1, 2, True]}, InvalidOption),
        ({"listeners": [1, 2, 1e39]}, InvalidOption),  # infinite in float32
        ({"listeners": [1, 2, 10**400]}, InvalidOption),
        ({"listeners": [1, 2, float("nan")]}, InvalidOption),
        ({"listeners": {"a": 1}}, InvalidOption),
        ({"listeners": b"1,2,3"}, InvalidOption),
        ({"listeners": b"[1, 2, Infinity]"}, InvalidOption),
        ({"listeners": b"\xff"}, InvalidOption),
    ],
)
def test_wrong_values_are_refused_by_name(given: dict[str, Any], error: type[LridError]) -> None:
    with pytest.raises(error, match=next(iter(given))):
        further_values(given, FIELDS)


def test_other_names_are_unknown() -> None:
    with pytest.raises(InvalidOption, match=r"unknown option 'lyric'; known: .*listeners, lyrics"):
        build_request({"lyric": "x"}, None, 20, FIELDS)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_finite_numbers_are_kept_and_fit_the_bound(numbers: list[float]) -> None:
    form = repr(numbers).encode()
    for value in (numbers, form):
        vector = further_values({"listeners": value}, FIELDS)["listeners"]
        assert isinstance(vector, np.ndarray)
        assert vector.tolist() == numbers
    assert len(form) <= most_bytes(FIELDS["listeners"])
