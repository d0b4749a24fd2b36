"""The plan of windows: coverage, bounds, order, count; and the filling of short ones."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audio.spec import WindowRequest, WindowSpec
from app.audio.windows import SLACK_SECONDS, first_sound, fit_window, last_sound, plan_windows
from app.domain import Span

seconds = st.floats(0.1, 7200.0)
starts = st.floats(0.0, 1000.0)
counts = st.integers(1, 300)
WINDOW = 30.0


def planned(span: Span, max_windows: int) -> tuple[Span, ...]:
    return plan_windows(span, WindowRequest(WindowSpec(100, 3000), max_windows))


@given(start=starts, length=seconds, most=counts)
def test_windows_lie_within_the_span_in_order(start: float, length: float, most: int) -> None:
    span = Span(start, start + length)
    windows = planned(span, most)
    assert 1 <= len(windows) <= most
    assert [w.start_seconds for w in windows] == sorted({w.start_seconds for w in windows})
    for window in windows:
        assert span.start_seconds <= window.start_seconds
        assert window.stop_seconds <= span.stop_seconds + 1e-6
        assert window.seconds == pytest.approx(min(WINDOW, span.seconds), abs=1e-6)


@given(start=starts, length=st.floats(WINDOW + SLACK_SECONDS + 0.001, 7200.0))
def test_windows_cover_the_span_when_there_are_enough(start: float, length: float) -> None:
    span = Span(start, start + length)
    windows = planned(span, 10_000)
    assert windows[0].start_seconds == span.start_seconds
    assert windows[-1].stop_seconds == pytest.approx(span.stop_seconds)
    gaps = [b.start_seconds - a.stop_seconds for a, b in itertools.pairwise(windows)]
    assert sum(max(gap, 0.0) for gap in gaps) <= SLACK_SECONDS
    assert len(windows) == math.ceil((span.seconds - SLACK_SECONDS) / WINDOW)


@given(length=st.floats(300.0, 7200.0), most=st.integers(2, 8))
def test_too_few_windows_are_spread_evenly(length: float, most: int) -> None:
    windows = planned(Span(5.0, 5.0 + length), most)
    assert len(windows) == most
    steps = np.diff([w.start_seconds for w in windows])
    assert steps == pytest.approx(np.full(most - 1, (length - WINDOW) / (most - 1)))


def test_a_single_window_of_a_long_span_sits_in_the_middle() -> None:
    assert planned(Span(10.0, 110.0), 1) == (Span(45.0, 75.0),)


def test_encoder_padding_does_not_cost_a_second_window() -> None:
    assert len(planned(Span(0.0, 30.1), 8)) == 1
    assert len(planned(Span(0.0, 31.0), 8)) == 2


POSITIONS = (0.2, 0.5, 0.8, 0.02)


def test_positions_are_middles_of_windows_in_order() -> None:
    windows = plan_windows(Span(0.0, 200.0), WindowRequest(WindowSpec(100, 1000, positions=POSITIONS), 4))
    assert [window.start_seconds for window in windows] == pytest.approx([35.0, 95.0, 155.0, 0.0])
    assert {round(window.seconds, 6) for window in windows} == {10.0}
    fewer = plan_windows(Span(0.0, 200.0), WindowRequest(WindowSpec(100, 1000, positions=POSITIONS), 2))
    assert fewer == windows[:2]


@pytest.mark.parametrize(
    ("seconds", "starts"), [(30.0, [0.0, 10.0, 20.0]), (40.0, [0.0, 20.0, 30.0, 10.0]), (12.0, [0.0, 2.0])]
)
def test_windows_that_cover_the_span_are_ordered_by_position(seconds: float, starts: list[float]) -> None:
    windows = plan_windows(Span(0.0, seconds), WindowRequest(WindowSpec(100, 1000, positions=POSITIONS), 5))
    assert [window.start_seconds for window in windows] == pytest.approx(starts)


def test_more_windows_than_positions_are_spread_evenly_and_begin_at_the_positions() -> None:
    windows = plan_windows(Span(0.0, 200.0), WindowRequest(WindowSpec(100, 1000, positions=(0.5,)), 5))
    assert [window.start_seconds for window in windows] == pytest.approx([95.0, 0.0, 47.5, 142.5, 190.0])


def test_a_timeline_covers_the_whole_span_in_order_of_time() -> None:
    windows = plan_windows(Span(0.0, 200.0), WindowRequest(WindowSpec(100, 1000, positions=POSITIONS), 5, whole=True))
    assert [window.start_seconds for window in windows] == pytest.approx([0.0, 47.5, 95.0, 142.5, 190.0])


def test_an_empty_span_has_no_windows() -> None:
    assert planned(Span(3.0, 3.0), 8) == ()


@given(size=st.integers(1, 500), window=st.integers(1, 500))
def test_fit_window_repeats_end_to_end(size: int, window: int) -> None:
    samples = np.arange(size, dtype=np.float32)
    fitted = fit_window(samples, window)
    assert fitted.shape == (window,)
    assert fitted.dtype == np.float32
    assert np.array_equal(fitted, np.arange(window) % size)
    followed = fit_window(samples, window, "silence")
    assert np.array_equal(followed, np.where(np.arange(window) < size, np.arange(window), 0))


@pytest.mark.parametrize("shape", [(0,), (3, 2)])
def test_fit_window_refuses_what_it_cannot_repeat(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="non-empty vector"):
        fit_window(np.zeros(shape, np.float32), 10)


@given(size=st.integers(1, 100_000), data=st.data())
def test_first_and_last_sound(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    samples = np.full(size, 0.0009, np.float32)
    samples[[first, last]] = -0.5
    assert first_sound(samples, 0.001) == first
    assert last_sound(samples, 0.001) == last
    assert first_sound(samples, 0.6) is None
    assert last_sound(samples, 0.6) is None
