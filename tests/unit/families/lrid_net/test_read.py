"""The reader's contract: order of languages, missing text, the same answer in every call, thread and process."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain import Metadata
from app.errors import ReleaseError
from app.families.lrid_net.read import MOST_CHARACTERS, LangdetectReader
from app.families.parts.profiles import langdetect_languages

REPOSITORY = Path(__file__).parents[4]
TEXTS = (
    "The Long Road Home",
    "Je ne sais pas pourquoi tu pleures",
    "Песня о далёкой родине",
    "사랑의 노래",
    "さくらの花が咲く頃",
    "Live 1999 Oslo",
    "a",
    "",
)


@pytest.fixture(scope="module")
def reader() -> LangdetectReader:
    return LangdetectReader(langdetect_languages(), seed=0)


def test_the_languages_are_the_55_codes_in_sorted_order() -> None:
    languages = langdetect_languages()
    assert len(languages) == 55
    assert list(languages) == sorted(languages)
    assert {"en", "fr", "ko", "zh-cn", "zh-tw"} <= set(languages)


@pytest.mark.parametrize("change", [lambda codes: codes[::-1], lambda codes: codes[:-1], lambda codes: (*codes, "xx")])
def test_other_languages_than_langdetects_are_refused(change: Any) -> None:
    with pytest.raises(ReleaseError, match="langdetect"):
        LangdetectReader(change(langdetect_languages()), seed=0)


@pytest.mark.parametrize(
    ("title", "code"),
    [
        ("Where did you go when the morning came", "en"),
        ("Je ne sais pas pourquoi tu pleures", "fr"),
        ("Ich weiß nicht warum du weinst", "de"),
        ("사랑의 노래를 부르자", "ko"),
        ("さくらの花が咲く頃", "ja"),
        ("Песня о далёкой родине моей", "ru"),
    ],
)
def test_each_language_has_its_own_dimension(reader: LangdetectReader, title: str, code: str) -> None:
    reading = reader(Metadata(title=title))
    assert langdetect_languages()[int(reading.vector.argmax())] == code
    assert reading.informative


def test_a_reading_is_56_probabilities_over_a_tenth(reader: LangdetectReader) -> None:
    reading = reader(Metadata(artist="Los Amigos", album="Songs of Home", title="La noche del mar"))
    assert reading.vector.shape == (56,)
    assert reading.vector.dtype == np.float32
    assert (reading.vector[reading.vector > 0] > 0.1).all()
    assert 0.1 < reading.vector.sum() <= 1 + 1e-6
    assert reading.vector[-1] == 0


@pytest.mark.parametrize(
    "title", [None, "", "   ", "12345", "1999 / 2000", "!?…", "🎵🎶", "http://example.org/song", "a@b.com", "\u200b"]
)
def test_what_says_nothing_is_the_last_dimension(reader: LangdetectReader, title: str | None) -> None:
    reading = reader(Metadata(title=title))
    assert reading.vector.tolist() == [0.0] * 55 + [1.0]
    assert not reading.informative


def test_the_fields_are_joined_in_the_papers_order(reader: LangdetectReader) -> None:
    metadata = Metadata(title="noche", artist="  Anna ", album="Vida")
    expected = reader.vector_of("Anna Vida noche").astype(np.float32)
    np.testing.assert_array_equal(reader(metadata).vector, expected)


def test_of_long_names_the_beginning_is_read(reader: LangdetectReader) -> None:
    title = "La vie en rose " * 100
    expected = reader.vector_of(title[:MOST_CHARACTERS]).astype(np.float32)
    np.testing.assert_array_equal(reader(Metadata(title=title)).vector, expected)


def test_the_seed_decides(reader: LangdetectReader) -> None:
    """A text between languages: another seed draws other n-grams; the same seed, in another reader, the same ones."""
    text = "Ola amigo canta"
    others = [LangdetectReader(langdetect_languages(), seed=seed).vector_of(text) for seed in (0, 1, 2)]
    np.testing.assert_array_equal(others[0], reader.vector_of(text))
    assert any(not np.array_equal(others[0], other) for other in others[1:])


def test_every_thread_gets_the_same_answer(reader: LangdetectReader) -> None:
    expected = [reader.vector_of(text) for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reader.vector_of, TEXTS * 40))
    for i, vector in enumerate(found):
        np.testing.assert_array_equal(vector, expected[i % len(TEXTS)])


def test_every_process_gets_the_same_answer(reader: LangdetectReader) -> None:
    """A fresh interpreter with other string hashes; which also shows that reading needs no torch."""
    script = (
        "import json, sys\n"
        "from app.families.parts.profiles import langdetect_languages\n"
        "from app.families.lrid_net.read import MOST_CHARACTERS, LangdetectReader\n"
        "reader = LangdetectReader(langdetect_languages(), seed=0)\n"
        "vectors = [reader.vector_of(text).tobytes().hex() for text in json.load(sys.stdin)]\n"
        "json.dump({'vectors': vectors, 'torch': 'torch' in sys.modules}, sys.stdout)\n"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(TEXTS),
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        found = json.loads(done.stdout)
        assert found["vectors"] == [reader.vector_of(text).tobytes().hex() for text in TEXTS]
        assert not found["torch"]
