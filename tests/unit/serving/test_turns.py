"""Numbers for those who were refused."""

from __future__ import annotations

import pytest

from app.serving.turns import Turns


def test_each_is_told_its_own_turn() -> None:
    turns = Turns(100)
    assert [turns.take(2, 0.5, now=10.0) for _ in range(4)] == [1.0, 2.0, 3.0, 4.0]


def test_the_line_moves_at_the_rate_of_the_device() -> None:
    turns = Turns(100)
    for _ in range(10):
        turns.take(1, 0.5, now=0.0)
    assert turns.take(1, 0.5, now=2.0) == pytest.approx((10 - 4 + 1) * 0.5)
    assert turns.take(1, 0.5, now=100.0) == 0.5  # everybody's turn is over


def test_nobody_is_told_to_wait_longer_than_a_full_queue_takes() -> None:
    turns = Turns(8)
    assert [turns.take(5, 0.1, now=0.0) for _ in range(3)] == pytest.approx([0.5, 0.8, 0.8])


def test_a_device_of_unknown_speed() -> None:
    assert Turns(8).take(1, 0.0, now=1.0) == 0.0
