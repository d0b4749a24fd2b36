"""The parts of `loadtest.compare` that need no server."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from loadtest.compare.__main__ import probabilities
from loadtest.compare.contenders import OURS, contenders, rivals, this_service
from loadtest.compare.environments import pip_reason
from loadtest.compare.measure import Load, median, summary
from loadtest.compare.report import Comparison, Score, draw, save_json, table
from loadtest.openloop import NO_REPLY, Reply, Sent


def sent(due_seconds: float, seconds: float, status: int) -> Sent:
    return Sent("clip", due_seconds, seconds, Reply(status, {}, b"") if status else NO_REPLY)


def test_summary_counts_every_outcome_and_goodput_to_the_last_good_answer() -> None:
    outcomes = [sent(0.0, 0.1, 200), sent(0.5, 0.3, 200), sent(1.0, 4.0, 200), sent(1.5, 0.01, 503), sent(2.0, 0.02, 429)]
    outcomes += [sent(2.5, 9.0, 0), sent(3.0, 0.1, 500)]
    load = summary(outcomes, offered_per_second=2.0, seconds=3.5)
    assert (load.answered, load.refused, load.failed) == (3, 2, 2)
    assert load.goodput_per_second == pytest.approx(3 / 5.0)  # the last one came 5 s after the start
    assert load.p50_ms == pytest.approx(300)
    assert load.p99_ms == pytest.approx(4000)
    assert load.refused_p99_ms == pytest.approx(20)


def test_summary_of_a_quick_server_is_over_the_whole_load() -> None:
    load = summary([sent(0.0, 0.1, 200), sent(1.0, 0.1, 200)], offered_per_second=1.0, seconds=2.0)
    assert load.goodput_per_second == pytest.approx(1.0)


def test_summary_when_nothing_was_answered() -> None:
    load = summary([sent(0.0, 30.0, 0)], offered_per_second=1.0, seconds=1.0)
    assert load.goodput_per_second == 0
    assert load.failed == 1
    assert math.isnan(load.p99_ms)


def test_median_ignores_what_is_no_number() -> None:
    assert median([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(median([]))


def a_load(goodput: float) -> Load:
    return Load(20.0, 10, 5, 0, goodput, 100.0, 200.0, 300.0, 12.0)


def a_comparison() -> Comparison:
    return Comparison(
        {"cores": "2"},
        [12.0, 10.0, 11.0],
        [
            Score(OURS, OURS, "ours", peaks_per_second=[10.0, 9.0], loads={"2": [a_load(9.5)]}, example={"en": 0.5}),
            Score("A, stock engine", "A", "stock", peaks_per_second=[2.0], loads={"2": [a_load(2.0)]}, example={"en": 0.51}),
            Score("B, stock engine", "B", "stock", peaks_per_second=[3.8], version="1.2"),
            Score("B, ours engine", "B", "ours", peaks_per_second=[8.0]),
            Score("C, ours engine", "C", "ours", failure="cannot be installed: no wheel"),
        ],
    )


def test_ratio_is_to_the_best_rival_with_that_engine() -> None:
    assert a_comparison().ratio("stock") == (pytest.approx(2.5), "B, stock engine")
    assert a_comparison().ratio("ours") == (pytest.approx(9.5 / 8.0), "B, ours engine")


def test_ratio_without_rivals_is_no_number() -> None:
    alone = Comparison({}, [], [Score(OURS, OURS, "ours", peaks_per_second=[10.0])])
    assert math.isnan(alone.ratio("stock")[0])


def test_table_has_a_row_for_everyone_and_says_why_one_is_missing() -> None:
    text = table(a_comparison())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert len(rows) == 2 + 5
    assert "cannot be installed: no wheel" in text
    assert "B, stock engine (1.2)" in text
    assert "2.50 x the best with the stock engine" in text
    assert "86% of the bare trunk's 11.00" in text
    assert "0.0100" in text  # the answers' difference


def test_saved_and_drawn(tmp_path: Path) -> None:
    save_json(a_comparison(), tmp_path / "result.json")
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["scores"][0]["peaks_per_second"] == [10.0, 9.0]
    draw(a_comparison(), tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_pip_reason_is_the_first_error() -> None:
    said = (
        "WARNING: something\nERROR: Could not find a version that satisfies x==9\nERROR: No matching distribution for x==9\n"
    )
    assert pip_reason(said) == "Could not find a version that satisfies x==9"
    assert pip_reason("") == "pip said nothing"


def test_everyone_with_each_engine_and_this_service_once_and_first() -> None:
    names = [part.name for part in contenders(list(rivals()))]
    assert names[0] == OURS
    assert len(names) == len(set(names)) == 1 + 3 * len(rivals())
    assert len(contenders(list(rivals()), ["stock"])) == 1 + len(rivals())


def test_a_clip_travels_whole() -> None:
    for part in [this_service(), *contenders(["mosec"])]:
        request = part.request(b"\x00clip\xff")
        head, _, body = request.partition(b"\r\n\r\n")
        assert b"\x00clip\xff" in body
        assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize(
    "body", [{"en": 0.7}, [{"en": 0.7}], {"language": "en", "languages": [{"code": "en", "probability": 0.7, "name": "x"}]}]
)
def test_probabilities_of_any_answer(body: object) -> None:
    assert probabilities(body) == {"en": 0.7}
