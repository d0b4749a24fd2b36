"""The line of windows, and the line of those who were sent away."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.queue import Item, WindowQueue
from app.serving.turns import Turns

LOADS = st.lists(st.tuples(st.sampled_from(["put", "take", "abandon", "clear"]), st.integers(0, 5)), max_size=40)


@given(LOADS)
def test_the_load_is_that_of_the_items_still_wanted(steps: list[tuple[str, int]]) -> None:
    """Whatever comes, goes, or is taken; and it is reported each time it changes."""

    async def scenario() -> None:
        reported = [(0, 0.0)]
        queue = WindowQueue(max_items=100, max_audio_seconds=1e6, on_load=lambda n, s: reported.append((n, s)))
        waiting: list[Item] = []
        for step, number in steps:
            if step == "put":
                future = asyncio.get_running_loop().create_future()
                item = Item(np.zeros(3, np.float32), 1.5 * number, 1e9, future, enqueued_at=0.0)
                queue.put(item)
                waiting.append(item)
            elif step == "take":
                taken, _ = queue.take(number, now=0.0)
                assert taken == waiting[:number]
                del waiting[:number]
            elif step == "abandon" and number < len(waiting):
                waiting.pop(number).future.cancel()
                await asyncio.sleep(0)
            elif step == "clear":
                assert [item for item in queue.clear() if not item.future.cancelled()] == waiting
                waiting.clear()
            seconds = sum(item.seconds for item in waiting)
            assert queue.n_items == len(waiting)
            assert queue.audio_seconds == pytest.approx(seconds)
            assert reported[-1] == (len(waiting), pytest.approx(seconds))
            assert queue.oldest is (waiting[0] if waiting else None)

    asyncio.run(scenario())


def test_what_nobody_waits_for_is_passed_over_and_its_samples_are_freed() -> None:
    async def scenario() -> None:
        queue = WindowQueue(max_items=10, max_audio_seconds=100, on_load=lambda n, s: None)
        loop = asyncio.get_running_loop()
        late, gone, wanted = (
            Item(np.zeros(9, np.float32), 1.0, deadline, loop.create_future(), 0.0) for deadline in (5.0, 50.0, 50.0)
        )
        for item in (late, gone, wanted):
            queue.put(item)
        gone.future.cancel()
        await asyncio.sleep(0)
        assert gone.samples.size == 0
        assert queue.take(2, now=10.0) == ([wanted], [late, gone])

    asyncio.run(scenario())


def test_turns_are_handed_out_one_after_another() -> None:
    turns = Turns(100)
    assert [turns.take(4, 0.5, now=0.0) for _ in range(3)] == [2.0, 4.0, 6.0]
    assert turns.take(4, 0.5, now=3.0) == 5.0  # six windows have had their turn meanwhile
    assert turns.take(4, 0.5, now=1000.0) == 2.0


def test_the_line_of_turns_is_bounded() -> None:
    turns = Turns(10)
    assert max(turns.take(4, 0.5, now=0.0) for _ in range(50)) == 5.0
