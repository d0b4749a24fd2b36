"""The pace that a Retry-After rests on, and how long it may be."""

from __future__ import annotations

import pytest

from app.serving.turns import LONGEST_ADVICE_SECONDS, Pace, Turns


def test_the_pace_is_that_of_busy_times() -> None:
    pace = Pace()
    assert pace.seconds == 0
    pace.begin(10.0)
    pace.done(10.4)
    assert pace.seconds == pytest.approx(0.4)
    pace.begin(100.0)  # it was idle for a long while
    for number in range(1, 40):
        pace.done(100.0 + 0.2 * number)
    assert pace.seconds == pytest.approx(0.2, abs=0.01)


def test_nobody_is_told_to_wait_for_ever() -> None:
    turns = Turns(1000)
    assert max(turns.take(10, 2.0, now=0.0) for _ in range(50)) == LONGEST_ADVICE_SECONDS


def test_before_anything_was_done() -> None:
    assert Turns(8).take(1, 0.0, now=1.0) == 0.0
