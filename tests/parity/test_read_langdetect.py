"""The reader equals langdetect: its own detector, with a fixed seed, whatever the text."""

import random
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import langdetect
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langdetect.detector import Detector
from langdetect.detector_factory import DetectorFactory
from langdetect.lang_detect_exception import LangDetectException
from langdetect.utils.ngram import NGram

from app.families.lrid_net.read import LangdetectReader
from app.families.parts.profiles import PROFILES, Float64Array, Profiles, cleaned, langdetect_languages

SEED = 7
TOLERANCE = 1e-9
LANGUAGES = langdetect_languages()

PHRASES = (
    "The night we left the city behind", "Je t'attendrai près de la rivière", "Ich hab' dich nie vergessen",
    "Não quero mais voltar pra casa", "Corazón de piedra y de sal", "La canzone che non c'è più",
    "Jag går hem genom snön", "Ostatni pociąg do Łodzi odjechał", "Gwiazdy nad morzem śpią",
    "Лети со мной над рекой", "Ніч яка місячна", "Тиха вода брегове рони", "Το τραγούδι της θάλασσας",
    "사랑은 비가 되어", "봄날의 기억", "さよならの向こう側", "カタカナ・ブルース", "東京の夜は長い", "月亮代表我的心",
    "我們的歌還在唱", "أغنية الليل الطويل", "شب‌های روشن", "שיר של יום חדש", "रात का सफ़र", "ரோஜா பூ", "เพลงรักของเรา",
    "Tình yêu của đêm nay", "Ti\u0300nh ye\u0302u cu\u0309a \u0111e\u0302m", "Șapte nopți în țară", "İstanbul'da bir gece",
    "Ég er kominn heim", "Õhtu jõuab õue", "Kërkoj dashurinë", "Ngayong gabi ay iyo", "Usiku wa manane",
)  # fmt: skip
ODDITIES = (
    "", " ", "1", "a", "Z", "é", "가", "漢", "あ", "42 45", "- . ,", "\t\n", "\u3000", "\u00a0", "\u2028",
    "\ufeff", "\ufffd", "AAA", "AAAa", "aAAa AaA", "LOUD AND CLEAR", "ÉTÉ ÀÉÈ", "ЖИЗНЬ", "ΩΔ", "ǅǈ", "İI", "ßẞ",
    "aaaaaaaaaaaaaaaa", "hahahahahaha", "[^_`]", "A[]z", "go to https://example.org/a?b=c&d=1 now", "http://",
    "https://x", "mail me@example.org please", "@home", "a@b", "who@where@when", "🎵 love 🎵", "👩‍👩‍👧",
    "𝒜𝓁𝓅𝒽𝒶", "\U0010ffff", "e\u0301" * 30, "\u0301\u0300", "zalgo\u0335\u0489" * 40, "Love 사랑",
    "사랑 Love Love Love", "사랑해요 넌 you", "ночь n", "ночной поезд n", "夜 night", "愛愛愛 a b",
    "  two   spaces  ", "\ud800 lone", "tab\tand\nline", "œuvre ĳsland ﬁn", "½ ¾ ²", "«été»", "ñandú", "x" * 3,
    "sch" * 7, "ii", "I I I", "Mc Mc",
)  # fmt: skip


@cache
def factory() -> DetectorFactory:
    """Languages in sorted order."""
    made = DetectorFactory()
    made.load_json_profile([(PROFILES / code).read_text(encoding="utf-8") for code in LANGUAGES])
    return made


class Reference:
    """langdetect's own detector from an own factory."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def detector_of(self, text: str) -> Detector:
        factory().set_seed(self._seed)
        detector = factory().create()
        detector.append(text)
        return detector

    def vector_of(self, text: str) -> Float64Array:
        return vector_from(self.detector_of(text).get_probabilities)


def vector_from(detect: Callable[[], list[Any]]) -> Float64Array:
    vector = np.zeros(len(LANGUAGES) + 1)
    try:
        for found in detect():
            vector[LANGUAGES.index(found.lang)] = found.prob
    except LangDetectException:
        vector[-1] = 1.0
    return vector


def varied_texts() -> list[str]:
    """About 300 texts: phrases of many scripts, alone, joined, recased, cut up, very long; and the oddities."""
    draw = random.Random(11)
    pairs = [" ".join(draw.sample(PHRASES, 2)) for _ in range(60)]
    triples = [" ".join(draw.sample(PHRASES, 3)) for _ in range(30)]
    cased = [phrase.upper() for phrase in PHRASES] + [phrase.title() for phrase in PHRASES[:12]]
    short = [draw.choice(PHRASES)[:n] for n in range(1, 9) for _ in range(4)]
    decorated = [f"{phrase} (feat. DJ {n}) [Remix {1990 + n}]" for n, phrase in enumerate(PHRASES[::2])]
    shuffled = ["".join(draw.sample(phrase, len(phrase))) for phrase in PHRASES[::3]]
    lengthy = [" ".join(draw.choices(PHRASES, k=60)), " ".join(PHRASES[:7] * 8), "la " * 500, "x y " * 4000]
    return [*PHRASES, *ODDITIES, *pairs, *triples, *cased, *short, *decorated, *shuffled, *lengthy]


TEXTS = varied_texts()


@pytest.fixture(scope="module")
def reader() -> LangdetectReader:
    return LangdetectReader(LANGUAGES, seed=SEED)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(SEED)


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    return Profiles(LANGUAGES)


def same(found: Float64Array, expected: Float64Array, text: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=repr(text[:200]))


def test_varied_texts(reader: LangdetectReader, reference: Reference) -> None:
    assert len(TEXTS) >= 300
    assert max(map(len, TEXTS)) > 10_000
    for text in TEXTS:
        same(reader.vector_of(text), reference.vector_of(text), text)


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
@example("\ud800")
def test_any_text(reader: LangdetectReader, reference: Reference, text: str) -> None:
    same(reader.vector_of(text), reference.vector_of(text), text)


@given(st.text(alphabet=sorted(set("".join(PHRASES) + "AZ @:/.\u0300\u0323")), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_mixture_of_scripts(reader: LangdetectReader, reference: Reference, text: str) -> None:
    same(reader.vector_of(text), reference.vector_of(text), text)


@pytest.mark.parametrize("seed", [0, 123456789])
def test_other_seeds(seed: int) -> None:
    reader, reference = LangdetectReader(LANGUAGES, seed=seed), Reference(seed)
    for text in TEXTS[::7]:
        same(reader.vector_of(text), reference.vector_of(text), text)


def test_stock_detect_langs(reader: LangdetectReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The public function, whose languages come in the order of a directory listing."""
    monkeypatch.setattr(DetectorFactory, "seed", SEED)
    for text in TEXTS[:120]:
        same(reader.vector_of(text), vector_from(partial(langdetect.detect_langs, text)), text)


def test_cleaning_and_ngrams(reference: Reference, profiles: Profiles) -> None:
    for text in TEXTS:
        detector = reference.detector_of(text)
        detector.cleaning_text()
        known = profiles.excerpt(cleaned(text))
        words = detector._extract_ngrams()
        assert [word for word in profiles.ngrams(cleaned(text)) if word in known] == words, text
        assert all(known[word].tolist() == detector.word_lang_prob_map[word] for word in known)


def test_no_character_outside_of_the_table_is_normalised() -> None:
    assert all(NGram.normalize(char) == char for char in map(chr, range(0x10000, 0x110000, 17)))
