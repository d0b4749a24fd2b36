"""From an identification to the public JSON."""

import json
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from app.domain import AUDIO, TEXT, AudioWarning, Metadata, Reading, Recording, Scores, Span, Track
from app.families.tasks import Bounds, Json, LanguageTask
from app.http.answer import build_response
from app.http.options import Options
from app.http.schemas import IdentifyResponse
from app.serving.identification import Identification
from tests.releases import CODES, spread, tiny_model

MODEL = tiny_model()
N = len(CODES)


def identified() -> Identification:
    """Two windows, the later one heard first; text that says nothing."""
    rows = np.stack([spread(("fr", 0.6), ("de", 0.3)), spread(("ko", 0.9))])
    found = Identification(copy(MODEL), Track(b"audio", Metadata(title="1999")), Options(), deadline=7.0)
    found.readings[TEXT] = Reading(np.zeros(56, np.float32), informative=False)
    found.recording = Recording(61.23456, (), "WAV")
    found.windows, found.rows = [Span(31.25, 61.25), Span(0.5, 30.5)], [np.zeros((2, 2048), np.float32)]
    found.scores = Scores(rows.mean(axis=0), rows)
    found.alone = {AUDIO: spread(("ja", 0.8))}
    found.seconds_by_stage = {"decode": 0.0123456, "model": 0.5, "total": 0.6}
    return found


def respond(options: Options, found: Identification | None = None, bounds: Bounds | None = None) -> Json:
    found = found or identified()
    found.model.task = LanguageTask(MODEL.manifest.languages, bounds or Bounds())  # type: ignore[misc]
    found.options = options
    answer = build_response(found)
    validated = IdentifyResponse.model_validate(answer, strict=True)
    assert validated.model_dump(exclude_unset=True) == answer  # unknown members would be lost
    return answer


def test_a_whole_answer() -> None:
    answer = respond(Options(top_k=2))
    assert (answer["language"], answer["probability"]) == ("ko", pytest.approx((0.9 + 0.1 / 9) / 2, abs=1e-6))
    assert [entry["code"] for entry in answer["languages"]] == ["ko", "fr"]
    assert answer["modalities"] == {
        "audio": {"used": True, "reason": None, "seconds": 61.235, "windows": 2, "sung_windows": None, "warnings": []},
        "text": {"used": False, "reason": "no_text_features", "fields": ["title"], "source": "request", "values": None},
    }
    assert (answer["timeline"], answer["explanation"], answer["sung"]) == (None, None, None)
    assert answer["timing_ms"] == {"decode": 12.346, "read": 0.0, "queue": 0.0, "model": 500.0, "total": 600.0}
    assert answer["model"] == {"family": "lrid_net", "release": "1", "sha256": MODEL.manifest.sha256}


def test_a_track_of_which_nothing_was_heard() -> None:
    found = identified()
    found.model.audio = None  # type: ignore[misc]
    found.track = Track(b"audio", Metadata("Piaf"))
    found.readings, found.from_tags = {TEXT: Reading(np.zeros(56, np.float32), informative=True)}, {TEXT}
    found.recording, found.windows, found.rows, found.alone = None, [], [], {}
    answer = respond(Options(timeline=True, explain=True), found)
    assert answer["modalities"] == {
        "audio": {
            "used": False,
            "reason": "not_trusted",
            "seconds": None,
            "windows": 0,
            "sung_windows": None,
            "warnings": [],
        },
        "text": {"used": True, "reason": None, "fields": ["artist"], "source": "tags", "values": {"artist": "Piaf"}},
    }
    assert (answer["timeline"], answer["explanation"]) == ([], {"audio_only": None, "text_only": None})


def test_text_that_was_not_given_has_no_source() -> None:
    found = identified()
    found.track, found.readings = Track(b"audio", Metadata()), {}
    text = respond(Options(), found)["modalities"]["text"]
    assert text == {"used": False, "reason": "not_given", "fields": [], "source": None, "values": None}


def test_warnings_stand_beside_the_audio() -> None:
    found = identified()
    found.warnings = dict.fromkeys([AudioWarning("truncated", "ends early", 12.5), AudioWarning("damaged", "3 packets")])
    answer = respond(Options(), found)
    assert answer["modalities"]["audio"]["warnings"] == [
        {"code": "truncated", "detail": "ends early", "at_seconds": 12.5},
        {"code": "damaged", "detail": "3 packets", "at_seconds": None},
    ]


def test_a_further_modality_of_a_family() -> None:
    found = identified()
    found.model.inputs = {**MODEL.inputs, "lyrics": MODEL.inputs[TEXT]}  # type: ignore[misc]
    found.readings["lyrics"] = Reading(np.zeros(56, np.float32), informative=True)
    found.alone = {"lyrics": spread(("fr", 0.9))}
    answer = respond(Options(explain=True, top_k=1), found)
    assert answer["modalities"]["lyrics"] == {"used": True, "reason": None, "source": "request"}
    assert answer["explanation"]["lyrics_only"][0]["code"] == "fr"


def test_the_timeline_is_in_order_of_time_however_it_was_heard() -> None:
    answer = respond(Options(top_k=1, timeline=True, explain=True))
    assert [(moment["start_seconds"], moment["language"]) for moment in answer["timeline"]] == [(0.5, "ko"), (31.25, "fr")]
    assert all(len(moment["languages"]) == 1 for moment in answer["timeline"])
    assert answer["explanation"]["audio_only"][0]["code"] == "ja"
    assert answer["explanation"]["text_only"] is None


@pytest.mark.parametrize(
    ("bounds", "scores", "language"),
    [
        (Bounds(most_unsung=0.5), {"unsung": 0.75}, "zxx"),
        (Bounds(least_share=0.4), {"shares": spread(("ko", 0.5), ("fr", 0.5))}, "mul"),
        (Bounds({frozenset({AUDIO}): 0.9}), {}, "und"),
    ],
)
def test_answers_that_are_no_class(bounds: Bounds, scores: dict[str, Any], language: str) -> None:
    found = identified()
    found.scores = replace(found.scores, **scores)
    answer = respond(Options(timeline=True), found, bounds)
    assert answer["language"] == language
    assert (answer["sung"] is not None) == (language == "mul")


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
    bounds = Bounds({frozenset({AUDIO}): 0.7})
    answer = respond(Options(languages=("de", "fr"), timeline=True), bounds=bounds)
    assert [moment["language"] for moment in answer["timeline"]] == ["und", "und"]
    assert answer["timeline"][1]["probability"] == pytest.approx(2 / 3, abs=1e-5)
