"""The queue of windows: its load, and what leaves it."""

import asyncio
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.metrics import Metrics
from app.serving.queue import Item, WindowQueue

LOADS = st.lists(
    st.tuples(st.sampled_from(["put", "put further", "take", "abandon", "clear"]), st.integers(0, 5)), max_size=40
)


@given(LOADS)
def test_the_load_is_that_of_the_items_still_wanted(steps: list[tuple[str, int]]) -> None:
    """Whatever comes, goes, or is taken, further windows first; and it is what the metrics say."""

    async def scenario() -> None:
        metrics = Metrics()
        queue = WindowQueue(100, 1e6, metrics)
        waiting: list[Item] = []
        for now, (step, number) in enumerate(steps):
            if step.startswith("put"):
                future = asyncio.get_running_loop().create_future()
                item = Item(np.zeros(3, np.float32), 1.5 * number, 1e9, future, now, step == "put further")
                queue.put(item)
                waiting.append(item)
                waiting.sort(key=lambda item: not item.begun)
            elif step == "take":
                assert queue.take(number, now=0.0) == waiting[:number]
                del waiting[:number]
            elif step == "abandon" and number < len(waiting):
                waiting.pop(number).future.cancel()
                await asyncio.sleep(0)
            elif step == "clear":
                assert queue.clear() == waiting
                waiting.clear()
            seconds = sum(item.seconds for item in waiting)
            assert queue.n_items == len(waiting)
            assert queue.audio_seconds == pytest.approx(seconds)
            assert metrics.registry.get_sample_value("lrid_queue_items") == len(waiting)
            assert metrics.registry.get_sample_value("lrid_queue_audio_seconds") == pytest.approx(seconds)
            assert queue.oldest is min(waiting, key=lambda item: item.enqueued_at, default=None)

    asyncio.run(scenario())


def test_what_nobody_waits_for_is_dropped_and_its_samples_are_freed() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        queue = WindowQueue(10, 100.0, metrics)
        loop = asyncio.get_running_loop()
        late, gone, wanted = (
            Item(np.zeros(9, np.float32), 1.0, deadline, loop.create_future(), 0.0) for deadline in (5.0, 50.0, 50.0)
        )
        samples = weakref.ref(gone.samples)
        for item in (late, gone, wanted):
            queue.put(item)
        gone.future.cancel()
        await asyncio.sleep(0)
        assert queue.n_items == 2
        del gone, item
        assert samples() is None
        assert queue.take(2, now=10.0) == [wanted]
        assert queue.n_items == 0
        assert metrics.registry.get_sample_value("lrid_dropped_windows_total") == 2

    asyncio.run(scenario())
