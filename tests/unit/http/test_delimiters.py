"""Preambles, padding and epilogues of multipart bodies."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.http.delimiters import Delimiters

PLAIN = b"--B\r\nA: b\r\n\r\none\r\n--B\r\nA: c\r\n\r\ntwo\r\n--B--\r\n"


def fed(body: bytes, cuts: list[int]) -> bytes:
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    delimiters = Delimiters(b"B")
    return b"".join(delimiters.feed(body[start:stop]) for start, stop in pairwise(places))


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        b"This is a message in MIME format.\r\n--A\r\n-- B\r\n--Bee\r\n" + PLAIN,
        b"\r\n" + PLAIN,
        PLAIN.replace(b"--B\r\n", b"--B \t  \r\n"),
        PLAIN + b"The rest\r\n--B\r\nis not read",
        PLAIN.removesuffix(b"\r\n"),
    ],
)
@given(cuts=st.lists(st.integers(0, 150), max_size=20))
@example(cuts=list(range(150)))  # byte by byte
def test_one_form_whatever_stands_around(body: bytes, cuts: list[int]) -> None:
    assert fed(body, cuts) == PLAIN


@given(content=st.binary(max_size=60), cuts=st.lists(st.integers(0, 100), max_size=10))
@example(content=b"\r\n--B \t x\r\n--Bee\r\n--B \r \n", cuts=list(range(100)))
def test_content_passes_as_it_is(content: bytes, cuts: list[int]) -> None:
    body = b"--B\r\n\r\n" + content + b"\r\n--B--\r\n"
    if content.startswith((b"--B\r\n", b"--B--")) or b"\r\n--B\r\n" in content or b"\r\n--B--" in content:
        return
    assert fed(body, cuts) == body


def test_padding_is_bounded() -> None:
    body = b"--B" + b" " * 100_000
    delimiters = Delimiters(b"B")
    assert b"".join(delimiters.feed(body[i : i + 1000]) for i in range(0, len(body), 1000)) == b""
    assert len(delimiters._held) < 2000
