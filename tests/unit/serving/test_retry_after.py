"""Throughput and the staggered Retry-After times computed from it."""

import pytest

from app.errors import NotReady
from app.serving.retry_after import MAX_RETRY_AFTER_SECONDS, RetryAfter, Throughput


def test_throughput_ignores_pauses() -> None:
    now = 10.0
    throughput = Throughput(lambda: now)
    assert throughput.seconds == 0
    with throughput.piece():
        assert throughput.in_progress == 1
        now = 10.4
    assert throughput.seconds == pytest.approx(0.4)
    now = 100.0  # idle for a long while
    with throughput.piece():
        for number in range(1, 40):
            with throughput.piece():
                now = 100.0 + 0.2 * number
        assert throughput.seconds == pytest.approx(0.2, abs=0.01)
    assert throughput.in_progress == 0


def test_a_lost_device_does_not_count_as_throughput() -> None:
    times = iter([0.0, 60.0])
    throughput = Throughput(lambda: next(times))
    with pytest.raises(NotReady), throughput.piece():
        raise NotReady("lost")
    assert (throughput.seconds, throughput.in_progress) == (0.0, 0)


def test_a_wait_is_bounded_in_seconds() -> None:
    retry_after = RetryAfter(1000)
    assert max(retry_after.take(10, 2.0, now=0.0) for _ in range(50)) == MAX_RETRY_AFTER_SECONDS


def test_no_wait_before_anything_was_measured() -> None:
    assert RetryAfter(8).take(1, 0.0, now=1.0) == 0.0


def test_waits_are_staggered() -> None:
    retry_after = RetryAfter(100)
    assert [retry_after.take(4, 0.5, now=0.0) for _ in range(3)] == [2.5, 5.0, 7.5]  # four fifths of the rate
    assert retry_after.take(4, 0.5, now=3.0) == pytest.approx(7.0)  # 4.8 of the twelve left meanwhile
    assert retry_after.take(4, 0.5, now=1000.0) == 2.5


def test_the_virtual_line_is_bounded() -> None:
    retry_after = RetryAfter(10)
    assert max(retry_after.take(4, 0.5, now=0.0) for _ in range(50)) == 6.25
