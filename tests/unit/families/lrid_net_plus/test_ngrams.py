from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.families.lrid_net_plus.ngrams import buckets, hashes, normalised


def slow_hashes(text: str, max_ngram: int) -> list[int]:
    """The same by its definition, in Python's integers."""
    mask, found = 0xFFFFFFFF, []
    bounded = [ord(sign) for sign in f"\x02{text}\x03"]
    for n in range(1, max_ngram + 1):
        for start in range(len(bounded) - n + 1):
            state = 2166136261
            for code in bounded[start : start + n]:
                state = (state ^ code) * 16777619 & mask
            found.append(state ^ n)
    return [value * 2654435761 & mask for value in found]


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=30))
def test_character_ngrams_are_those_of_the_definition(text: str) -> None:
    slow = slow_hashes(text, 4)
    assert hashes([text], 4)[0][: len(slow)].tolist() == slow


def test_words_and_pairs_of_words_follow() -> None:
    mask = 0xFFFFFFFF
    la, mer = zlib.crc32(b"la"), zlib.crc32(b"mer")
    expected = [la ^ 0x51ED270B, mer ^ 0x51ED270B, ((la * 16777619 & mask) ^ mer) ^ 0x7FEB352D]
    assert hashes(["la mer"], 5)[0][-3:].tolist() == [value * 2654435761 & mask for value in expected]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_texts_do_not_run_into_each_other(texts: list[str]) -> None:
    for text, found in zip(texts, hashes(texts, 5), strict=True):
        np.testing.assert_array_equal(found, hashes([text], 5)[0])


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_buckets_stay_inside_the_table(text: str) -> None:
    found = buckets([normalised(text, 40)], 5, 10)[0]
    assert ((found >= 0) & (found < 1 << 10)).all()


def test_buckets_are_evenly_used() -> None:
    texts = [f"{a} {b}" for a in ("love", "noche", "été", "звезда") for b in map(str, range(300))]
    used = np.bincount(np.concatenate([np.unique(hashes([text], 5)[0] >> np.uint32(24)) for text in texts]), minlength=256)
    assert (used > 0).mean() > 0.95


def test_writing_habits_do_not_matter() -> None:
    assert normalised("  Ｌａ  MER\n", 100) == "la mer"
    assert normalised("cafe\u0301", 100) == "café"
    assert normalised("x" * 500, 100) == "x" * 100


def test_compatibility_forms_cannot_make_a_text_long() -> None:
    assert len(normalised("\ufdfa" * 1000, 50)) == 50  # one sign that decomposes into eighteen
