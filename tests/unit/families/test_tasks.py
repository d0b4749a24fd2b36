"""LanguageTask: ranking, candidates, and when the answer is `und`, `zxx` or `mul`."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import AUDIO, TEXT, FloatArray, Language, Mode, Scores
from app.errors import UnknownLanguage
from app.families.tasks import Bounds, ClassTask, LanguageTask, View
from tests.releases import CODES, LABELS, spread

N = len(CODES)
HEARD, READ, BOTH = frozenset({AUDIO}), frozenset({TEXT}), frozenset({AUDIO, TEXT})
LANGUAGES = tuple(Language(code, iso if code != "others" else None, name) for code, iso, name in LABELS)
NO_WINDOWS = np.zeros((0, N), np.float32)


def task(least: dict[Mode, float] | None = None, **bounds: Any) -> LanguageTask:
    return LanguageTask(LANGUAGES, Bounds(least or {}, **bounds))


def scores(*best: tuple[str, float], **members: Any) -> Scores:
    return Scores(spread(*best), members.pop("windows", NO_WINDOWS), **members)


def decided(task: LanguageTask, found: Scores, mode: Mode, view: View = View()) -> tuple[str, float]:  # noqa: B008
    answer = task.answer(found, mode, view)
    return answer["language"], answer["probability"]


# --- ranking ----------------------------------------------------------------------------------------------------------


def test_ranked_best_first_and_ties_in_the_releases_order() -> None:
    ranked = task().ranked(spread(("ko", 0.5), ("de", 0.3)), View())
    assert [entry["code"] for entry in ranked] == ["ko", "de", *(code for code in CODES if code not in ("ko", "de"))]
    assert (ranked[0]["name"], ranked[0]["iso639_3"]) == ("Korean", "kor")


@given(st.lists(st.floats(0, 1, width=32), min_size=N, max_size=N), st.integers(1, N), st.booleans())
def test_a_written_answer_has_the_bytes_of_the_listed_one(raw: list[float], top_k: int, some: bool) -> None:
    found, candidates = Scores(np.array(raw, np.float32), NO_WINDOWS), CODES[:3] if some else None
    listed, written = (
        task().answer(found, READ, View(top_k, tuple(candidates) if candidates else None, w)) for w in (False, True)
    )
    assert orjson.dumps(written) == orjson.dumps(listed)


def test_a_class_that_is_no_single_language_has_no_iso639_3() -> None:
    others = next(entry for entry in task().ranked(spread(("ko", 0.5)), View()) if entry["code"] == "others")
    assert others["iso639_3"] is None


def test_candidates_are_renormalised_and_raw_is_kept() -> None:
    view = View(candidates=("fr", "de", "fr"))
    ranked = task().ranked(spread(("ko", 0.5), ("de", 0.3), ("fr", 0.1)), view)
    assert [(entry["code"], entry["probability"], entry["raw_probability"]) for entry in ranked] == [
        ("de", 0.75, 0.3),
        ("fr", 0.25, 0.1),
    ]


def test_candidates_without_any_probability_share_it() -> None:
    probabilities = np.zeros(N, np.float32)
    probabilities[0] = 1.0
    ranked = task().ranked(probabilities, View(candidates=("fr", "de")))
    assert {entry["code"]: entry["probability"] for entry in ranked} == {"fr": 0.5, "de": 0.5}


@pytest.mark.parametrize("languages", [("xx",), ("en", ""), ("EN",), ("kor",)])
def test_unknown_candidates_are_refused_with_those_that_are_known(languages: tuple[str, ...]) -> None:
    with pytest.raises(UnknownLanguage, match=r"is not among en, pt, es, ko"):
        task().check(View(candidates=languages))


def test_known_candidates_and_none_at_all_pass() -> None:
    task().check(View(candidates=("en", "others")))
    task().check(View())


@given(
    logits=st.lists(st.floats(-60, 60), min_size=N, max_size=N),
    languages=st.none() | st.lists(st.sampled_from(CODES), min_size=1).map(tuple),
    top_k=st.none() | st.integers(1, N + 1),
)
def test_shares_are_ranked_and_sum_to_one(logits: list[float], languages: tuple[str, ...] | None, top_k: int | None) -> None:
    exponentials = np.exp(np.array(logits) - max(logits))
    probabilities = (exponentials / exponentials.sum()).astype(np.float32)
    ranked = task().ranked(probabilities, View(candidates=languages))
    values = [entry["probability"] for entry in ranked]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1.0, abs=1e-5)
    assert {entry["code"] for entry in ranked} == set(languages or CODES)
    assert task().ranked(probabilities, View(top_k, languages)) == ranked[:top_k]


# --- und --------------------------------------------------------------------------------------------------------------


def test_the_answer_is_undetermined_under_the_bound_of_its_mode() -> None:
    bounded = task({HEARD: 0.5, BOTH: 0.501})
    assert decided(bounded, scores(("ko", 0.5)), HEARD) == ("ko", 0.5)
    assert decided(bounded, scores(("ko", 0.5)), BOTH) == ("und", 0.5)
    assert decided(bounded, scores(("ko", 0.01)), READ)[0] != "und"  # a mode that is not named has no bound


def test_a_language_may_have_a_bound_of_its_own_where_text_was_read() -> None:
    found = scores(("ko", 0.5))
    assert decided(task({READ: 0.9}, least_by_language={READ: {"ko": 0.5}}), found, READ)[0] == "ko"
    assert decided(task({READ: 0.1}, least_by_language={READ: {"ko": 0.6}}), found, READ)[0] == "und"
    assert decided(task({READ: 0.5}, least_by_language={READ: {"fr": 0.9}}), found, READ)[0] == "ko"
    assert decided(task({HEARD: 0.1}, least_by_language={READ: {"ko": 0.6}}), found, HEARD)[0] == "ko"


def test_candidates_are_decided_among_themselves() -> None:
    found = scores(("ko", 0.5), ("de", 0.3), ("fr", 0.1))
    view = View(candidates=("de", "fr"))
    assert decided(task({READ: 0.75}), found, READ, view) == ("de", 0.75)
    assert decided(task({READ: 0.76}), found, READ, view) == ("und", 0.75)


# --- zxx --------------------------------------------------------------------------------------------------------------


def test_nothing_is_sung_above_the_bound() -> None:
    bounded = task(most_unsung=0.6)
    assert decided(bounded, scores(("ko", 0.9), unsung=0.61), HEARD) == ("zxx", 0.61)
    assert decided(bounded, scores(("ko", 0.9), unsung=0.6), HEARD) == ("ko", 0.9)
    assert decided(task(), scores(("ko", 0.9), unsung=1.0), HEARD) == ("ko", 0.9)  # a release that cannot tell


def test_the_languages_are_listed_all_the_same() -> None:
    answer = task(most_unsung=0.6).answer(scores(("ko", 0.9), unsung=0.9), HEARD, View(top_k=2))
    assert [entry["code"] for entry in answer["languages"]] == ["ko", "en"]


# --- mul --------------------------------------------------------------------------------------------------------------

SHARES = {"ko": 0.6, "en": 0.3, "fr": 0.1}


def shares(**of: float) -> FloatArray:
    return np.array([of.get(code, 0.0) for code in CODES], np.float32)


def test_several_languages_each_over_the_stated_share() -> None:
    answer = task(least_share=0.25).answer(scores(("ko", 0.7), shares=shares(**SHARES)), HEARD, View())
    assert (answer["language"], answer["probability"]) == ("mul", pytest.approx(0.7))
    assert answer["sung"] == [{"code": "ko", "share": 0.6}, {"code": "en", "share": 0.3}]


@pytest.mark.parametrize(
    ("members", "bounds"),
    [
        ({"shares": shares(**SHARES)}, {"least_share": 0.35}),  # one language alone is over it
        ({"shares": shares(**SHARES)}, {}),  # the release does not say `mul`
        ({"shares": None}, {"least_share": 0.25}),
    ],
)
def test_otherwise_the_best_is_the_answer(members: dict[str, Any], bounds: dict[str, Any]) -> None:
    answer = task(**bounds).answer(scores(("ko", 0.7), **members), HEARD, View())
    assert (answer["language"], answer["sung"]) == ("ko", None)


def test_a_language_that_is_no_candidate_does_not_count() -> None:
    found = scores(("ko", 0.7), shares=shares(**SHARES))
    answer = task(least_share=0.25).answer(found, HEARD, View(candidates=("ko", "fr")))
    assert (answer["language"], answer["sung"]) == ("ko", None)


def test_nothing_sung_goes_before_several_and_several_before_not_sure() -> None:
    unsung = scores(("ko", 0.7), shares=shares(**SHARES), unsung=0.9)
    assert task(least_share=0.25, most_unsung=0.5).answer(unsung, HEARD, View())["language"] == "zxx"
    unsure = scores(("ko", 0.2), shares=shares(**SHARES))
    answer = task({HEARD: 0.5}, least_share=0.25).answer(unsure, HEARD, View())
    assert answer["language"] == "mul"
    assert answer["sung"] is not None


# --- moments ----------------------------------------------------------------------------------------------------------


def test_every_window_has_a_decision_of_its_own() -> None:
    rows = np.stack([spread(("ko", 0.9)), spread(("fr", 0.3)), spread(("de", 0.9))])
    found = scores(("ko", 0.5), windows=rows, windows_unsung=np.array([0.0, 0.1, 0.8], np.float32))
    moments = task({HEARD: 0.5}, most_unsung=0.5).moments(found, HEARD, View(top_k=1))
    assert [moment["language"] for moment in moments] == ["ko", "und", "zxx"]
    assert [moment["languages"][0]["code"] for moment in moments] == ["ko", "fr", "de"]
    assert [len(moment["languages"]) for moment in moments] == [1, 1, 1]


def test_windows_of_a_release_that_cannot_tell_silence_from_singing() -> None:
    moments = task().moments(scores(("ko", 0.5), windows=np.stack([spread(("ko", 0.9))])), HEARD, View())
    assert [moment["language"] for moment in moments] == ["ko"]


# --- classes that are no languages ------------------------------------------------------------------------------------


def test_a_class_task_always_answers_and_lists_the_classes() -> None:
    genres = ClassTask([Language("rock", None, "Rock"), Language("folk", None, "Folk")], "genre", "genres")
    found = Scores(np.array([0.2, 0.8], np.float32), np.array([[0.9, 0.1]], np.float32))
    answer = genres.answer(found, HEARD, View())
    assert answer == {
        "genre": "folk",
        "probability": 0.8,
        "genres": [
            {"code": "folk", "name": "Folk", "probability": 0.8},
            {"code": "rock", "name": "Rock", "probability": 0.2},
        ],
    }
    assert genres.headline(answer) == ("folk", 0.8)
    assert [moment["genre"] for moment in genres.moments(found, HEARD, View(top_k=1))] == ["rock"]
    assert genres.ranked(found.probabilities, View(candidates=("rock",)))[0]["probability"] == 1.0
    with pytest.raises(UnknownLanguage, match="'jazz' is not among rock, folk"):
        genres.check(View(candidates=("jazz",)))
