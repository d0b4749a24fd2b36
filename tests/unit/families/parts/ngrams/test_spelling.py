import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.families.parts.ngrams.fields import BEGIN, END, code_points, normalised, word_hashes
from app.families.parts.ngrams.loops import find_buckets

MASK = 0xFFFFFFFF


def buckets(text: str, max_ngram: int, buckets_log2: int) -> list[int]:
    codes, words = code_points([f"{BEGIN}{text}{END}"])[0], word_hashes([text])[0]
    return find_buckets(codes, words, max_ngram, 32 - buckets_log2).tolist()


def slow_hashes(text: str, max_ngram: int) -> list[int]:
    """Of the character n-grams by their definition, in Python's integers."""
    found = []
    signs = [ord(sign) for sign in f"\x02{text}\x03"]
    for start in range(len(signs)):
        state = 2166136261
        for n, code in enumerate(signs[start : start + max_ngram], 1):
            state = (state ^ code) * 16777619 & MASK
            found.append((state ^ n) * 2654435761 & MASK)
    return found


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=30))
def test_character_ngrams_are_those_of_the_definition(text: str) -> None:
    slow = [value >> 10 for value in slow_hashes(text, 4)]
    assert buckets(text, 4, 22)[: len(slow)] == slow


def test_words_and_the_pairs_they_end_follow() -> None:
    la, mer = zlib.crc32(b"la"), zlib.crc32(b"mer")
    expected = [la ^ 0x51ED270B, mer ^ 0x51ED270B, ((la * 16777619 & MASK) ^ mer) ^ 0x7FEB352D]
    assert buckets("la mer", 5, 22)[-3:] == [(value * 2654435761 & MASK) >> 10 for value in expected]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_buckets_stay_inside_the_table(text: str) -> None:
    assert all(0 <= bucket < 1 << 10 for bucket in buckets(normalised(text, 40), 5, 10))


def test_buckets_are_evenly_used() -> None:
    texts = [f"{a} {b}" for a in ("love", "noche", "été", "звезда") for b in map(str, range(300))]
    used = np.bincount(np.concatenate([list(set(buckets(text, 5, 8))) for text in texts]), minlength=256)
    assert (used > 0).mean() > 0.95


def test_any_text_has_code_points_and_words() -> None:
    codes, starts = code_points(["a\ud83d", "", "夢"])
    assert codes.tolist() == [97, 0xD83D, 0x5922]
    assert starts.tolist() == [0, 2, 2, 3]
    assert word_hashes(["caf\ud83d x", ""])[1].tolist() == [0, 2, 2]


def test_writing_habits_do_not_matter() -> None:
    assert normalised("  Ｌａ  MER\n", 100) == "la mer"
    assert normalised("cafe\u0301", 100) == "café"
    assert normalised("x" * 500, 100) == "x" * 100


def test_compatibility_forms_cannot_make_a_text_long() -> None:
    assert len(normalised("\ufdfa" * 1000, 50)) == 50  # one sign that decomposes into eighteen
