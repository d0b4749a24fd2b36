"""Tensors: whatever comes is one dict of values per track, or an error of ours."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import InvalidTensor
from app.http.tensors import infer_request, tracks


def request(n: int, size: object) -> dict[str, object]:
    return {"inputs": [{"name": "audio", "datatype": "BYTES", "shape": [n], "parameters": {"binary_data_size": size}}]}


@given(values=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_what_was_packed_is_unpacked(values: list[bytes]) -> None:
    binary = b"".join(struct.pack("<I", len(value)) + value for value in values)
    found = tracks(infer_request(request(len(values), len(binary))), binary)
    assert [one.get("audio", b"") for one in found] == values


@given(n=st.integers(0, 300), size=st.integers(-1, 60) | st.none() | st.booleans(), binary=st.binary(max_size=50))
@example(n=1, size=4, binary=bytes(4))
def test_any_bytes_are_tracks_or_an_error_of_ours(n: int, size: object, binary: bytes) -> None:
    try:
        found = tracks(infer_request(request(n, size)), binary)
    except InvalidTensor:
        return
    assert len(found) == n
    assert sum(len(one.get("audio", b"")) + 4 for one in found) == len(binary) == size


@pytest.mark.parametrize("name", ["title", "artist"])
def test_columns_become_rows(name: str) -> None:
    tensors = [{"name": name, "datatype": "BYTES", "shape": [2], "data": ["a", "é"]}]
    tensors.append({"name": "album", "datatype": "BYTES", "shape": [2, 1], "data": [["x"], [""]]})
    assert tracks(infer_request({"inputs": tensors}), b"") == [{name: b"a", "album": b"x"}, {name: "é".encode()}]


def test_an_output_is_answered_once() -> None:
    """A megabyte of them would be gigabytes of answers."""
    tensors = [{"name": "title", "datatype": "BYTES", "shape": [1], "data": ["a"]}]
    with pytest.raises(InvalidTensor, match="more than once"):
        infer_request({"inputs": tensors, "outputs": [{"name": "answer"}] * 2})


def test_empty_elements_are_not_collected() -> None:
    """Millions of them fit into one body; reading them would hold up every other request."""
    with pytest.raises(InvalidTensor, match="says 2 elements, more came"):
        tracks(infer_request(request(2, 4_000_000)), bytes(4_000_000))
    tensors = [{"name": f"title{n}", "datatype": "BYTES", "shape": [1], "data": ["a"]} for n in range(65)]
    with pytest.raises(InvalidTensor, match="at most 64 items"):
        infer_request({"inputs": tensors})
