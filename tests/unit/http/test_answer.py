"""From probabilities to the public JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from app.domain import UNDETERMINED, Identification, Metadata, Modality, Probabilities, Recording, Window
from app.errors import UnknownLanguage
from app.http.answer import Ranking, build_response, decide
from app.http.schemas import IdentifyResponse, Options
from tests.releases import CODES, tiny_manifest

MANIFEST = tiny_manifest()
N = len(CODES)


def spread(*best: tuple[str, float]) -> np.ndarray:
    """The named probabilities; the rest is shared by all others."""
    probabilities = np.full(N, (1 - sum(p for _, p in best)) / (N - len(best)), np.float32)
    for code, probability in best:
        probabilities[CODES.index(code)] = probability
    return probabilities


def shares(ranking: Ranking, probabilities: np.ndarray) -> dict[str, float]:
    return {entry["code"]: entry["probability"] for entry in ranking.rank(probabilities)}


def test_ranked_best_first_and_ties_in_the_release_s_order() -> None:
    ranked = Ranking(MANIFEST, Options()).rank(spread(("ko", 0.5), ("de", 0.3)))
    assert [entry["code"] for entry in ranked] == ["ko", "de", *(code for code in CODES if code not in ("ko", "de"))]
    assert (ranked[0]["name"], ranked[0]["iso639_3"]) == ("Korean", "kor")


def test_candidates_are_renormalised_and_raw_is_kept() -> None:
    ranked = Ranking(MANIFEST, Options(languages=("fr", "de", "fr"))).rank(spread(("ko", 0.5), ("de", 0.3), ("fr", 0.1)))
    assert [(entry["code"], entry["probability"], entry["raw_probability"]) for entry in ranked] == [
        ("de", 0.75, 0.3),
        ("fr", 0.25, 0.1),
    ]


def test_candidates_without_any_probability_share_it() -> None:
    probabilities = np.zeros(N, np.float32)
    probabilities[0] = 1.0
    assert shares(Ranking(MANIFEST, Options(languages=("fr", "de"))), probabilities) == {"fr": 0.5, "de": 0.5}


@pytest.mark.parametrize("languages", [("xx",), ("en", ""), ("EN",), ("kor",)])
def test_unknown_candidates(languages: tuple[str, ...]) -> None:
    with pytest.raises(UnknownLanguage, match=r"is not among en, pt, es, ko"):
        Ranking(MANIFEST, Options(languages=languages))


@given(
    logits=st.lists(st.floats(-60, 60), min_size=N, max_size=N),
    languages=st.none() | st.lists(st.sampled_from(CODES), min_size=1).map(tuple),
)
def test_shares_are_ranked_and_sum_to_one(logits: list[float], languages: tuple[str, ...] | None) -> None:
    exponentials = np.exp(np.array(logits) - max(logits))
    probabilities = (exponentials / exponentials.sum()).astype(np.float32)
    ranked = Ranking(MANIFEST, Options(languages=languages)).rank(probabilities)
    values = [entry["probability"] for entry in ranked]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1.0, abs=1e-5)
    assert {entry["code"] for entry in ranked} == set(languages or CODES)


def test_the_answer_is_undetermined_under_the_threshold() -> None:
    ranked = Ranking(MANIFEST, Options()).rank(spread(("ko", 0.5)))
    assert decide(ranked, 0.5, {}) == "ko"
    assert decide(ranked, 0.501, {}) == UNDETERMINED


def test_a_language_may_have_a_threshold_of_its_own() -> None:
    ranked = Ranking(MANIFEST, Options()).rank(spread(("ko", 0.5)))
    assert decide(ranked, 0.9, {"ko": 0.5}) == "ko"
    assert decide(ranked, 0.1, {"ko": 0.6}) == UNDETERMINED
    assert decide(ranked, 0.5, {"fr": 0.9}) == "ko"


def identified(threshold: float = 0.0) -> Identification:
    rows = np.stack([spread(("ko", 0.9)), spread(("fr", 0.6), ("de", 0.3))])
    samples = np.zeros(4, np.float32)
    return Identification(
        probabilities=Probabilities(windows=rows, mean=rows.mean(axis=0)),
        audio_only=spread(("ja", 0.8)),
        text_only=None,
        audio=Modality(True),
        text=Modality(False, "no_text_features"),
        recording=Recording(61.23456, (Window(0.5, 30.0, samples), Window(31.25, 30.0, samples)), "WAV"),
        threshold=threshold,
        seconds_by_stage={"decode": 0.0123456, "model": 0.5, "total": 0.6},
    )


def respond(options: Options, threshold: float = 0.0) -> dict:
    answer = build_response(identified(threshold), Metadata(title="1999"), MANIFEST, options, Ranking(MANIFEST, options))
    assert IdentifyResponse.model_validate(answer, strict=True, extra="forbid").model_dump() == answer
    return answer


def test_a_whole_answer() -> None:
    answer = respond(Options(top_k=2))
    assert (answer["language"], answer["probability"]) == ("ko", pytest.approx((0.9 + 0.1 / 9) / 2, abs=1e-6))
    assert [entry["code"] for entry in answer["languages"]] == ["ko", "fr"]
    assert answer["modalities"]["audio"] == {"used": True, "seconds": 61.235, "windows": 2, "reason": None}
    assert answer["modalities"]["text"] == {"used": False, "fields": ["title"], "reason": "no_text_features"}
    assert (answer["timeline"], answer["explanation"]) == (None, None)
    assert answer["timing_ms"] == {"decode": 12.346, "read": 0.0, "queue": 0.0, "model": 500.0, "total": 600.0}
    assert answer["model"] == {"family": "lrid_net", "release": "1", "sha256": MANIFEST.sha256}


def test_timeline_and_explanation() -> None:
    answer = respond(Options(top_k=1, timeline=True, explain=True))
    assert [(moment["start_seconds"], moment["language"]) for moment in answer["timeline"]] == [(0.5, "ko"), (31.25, "fr")]
    assert all(len(moment["languages"]) == 1 for moment in answer["timeline"])
    assert answer["explanation"]["audio_only"][0]["code"] == "ja"
    assert answer["explanation"]["text_only"] is None


@given(
    top_k=st.none() | st.integers(1, N + 1),
    languages=st.none() | st.lists(st.sampled_from(CODES), min_size=1).map(tuple),
    timeline=st.booleans(),
    explain=st.booleans(),
)
def test_answers_of_every_kind_have_the_documented_form(
    top_k: int | None, languages: tuple[str, ...] | None, timeline: bool, explain: bool
) -> None:
    answer = respond(Options(top_k=top_k, languages=languages, timeline=timeline, explain=explain))
    assert json.loads(to_json(answer)) == answer


def test_options_hold_for_every_moment() -> None:
    answer = respond(Options(languages=("de", "fr"), timeline=True), threshold=0.7)
    assert [moment["language"] for moment in answer["timeline"]] == [UNDETERMINED, UNDETERMINED]
    assert answer["timeline"][1]["probability"] == pytest.approx(2 / 3, abs=1e-5)
