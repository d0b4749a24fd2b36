"""The queue of windows: its load, and what leaves it."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.queue import Item, WindowQueue

LOADS = st.lists(
    st.tuples(st.sampled_from(["put", "put further", "take", "abandon", "clear"]), st.integers(0, 5)), max_size=40
)


@given(LOADS)
def test_the_load_is_that_of_the_items_still_wanted(steps: list[tuple[str, int]]) -> None:
    """Whatever comes, goes, or is taken, further windows first; and it is reported each time it changes."""

    async def scenario() -> None:
        reported = [(0, 0.0)]
        queue = WindowQueue(max_items=100, max_audio_seconds=1e6, on_load=lambda n, s: reported.append((n, s)))
        waiting: list[Item] = []
        for step, number in steps:
            if step.startswith("put"):
                future = asyncio.get_running_loop().create_future()
                item = Item(np.zeros(3, np.float32), 1.5 * number, 1e9, future, len(reported), step == "put further")
                queue.put(item)
                waiting.append(item)
                waiting.sort(key=lambda item: not item.begun)
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
            assert reported[-1][0] == len(waiting)
            assert reported[-1][1] == pytest.approx(seconds)
            assert queue.oldest is min(waiting, key=lambda item: item.enqueued_at, default=None)

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
