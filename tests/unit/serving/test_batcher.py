"""Dynamic batching: what runs when, what is bounded, and who leaves."""

import asyncio
import threading

import numpy as np
import pytest

from app.errors import QueueFull
from tests.unit.serving.batching import (
    Device,
    ask,
    ask_while_busy,
    batching,
    features_of,
    run,
    value,
    window,
)

# --- what runs when ---------------------------------------------------------------------------------------------------


def test_an_idle_device_starts_at_once() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device) as batcher:
            heard = await ask(batcher, 5)
        assert np.array_equal(heard.features, [features_of(5)])
        assert device.passes == [[5]]
        assert heard.queue_seconds < 1

    run(scenario())


def test_a_stopped_batcher_has_no_thread() -> None:
    """At once, since the process may end next, and a thread inside torch may then abort it."""

    async def scenario() -> None:
        others = set(threading.enumerate())
        async with batching(Device()) as batcher:
            await ask(batcher, 5)
            (thread,) = [one for one in set(threading.enumerate()) - others if one.name == "lrid-device"]
        assert not thread.is_alive()

    run(scenario())


def test_what_arrives_meanwhile_forms_the_next_batch() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device) as batcher:
            tasks = await ask_while_busy(batcher, device, [1, 2, 3])
            device.release()
            await asyncio.gather(*tasks)
            assert device.passes == [[99], [1, 2, 3]]
            assert value(batcher, "lrid_batch_size_sum") == 4

    run(scenario())


def test_a_batch_has_a_largest_size_and_is_first_come_first_served() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device, max_batch_size=3) as batcher:
            tasks = await ask_while_busy(batcher, device, range(1, 8))
            device.release()
            await asyncio.gather(*tasks)
        assert device.passes == [[99], [1, 2, 3], [4, 5, 6], [7]]

    run(scenario())


def test_windows_of_one_request_come_back_in_order() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device, max_batch_size=2) as batcher:
            one, other = await asyncio.gather(ask(batcher, 5, 3, 9, 1, 7), ask(batcher, 2, 8))
        assert one.features[:, 0].tolist() == [5, 3, 9, 1, 7]
        assert other.features[:, 0].tolist() == [2, 8]
        assert one.queue_seconds >= 0
        assert one.model_seconds > 0

    run(scenario())


def test_no_wait_by_default_and_a_wait_when_asked_for() -> None:
    async def scenario(wait_seconds: float) -> list[list[int]]:
        device = Device()
        async with batching(device, batch_wait_ms=wait_seconds * 1000) as batcher:
            first = ask(batcher, 1)
            await asyncio.sleep(0.1)
            await asyncio.gather(first, ask(batcher, 2))
        return device.passes

    assert run(scenario(0.0)) == [[1], [2]]
    assert run(scenario(1.0)) == [[1, 2]]


def test_a_full_batch_does_not_wait() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device, batch_wait_ms=20000.0, max_batch_size=2) as batcher:
            async with asyncio.timeout(10):
                first = ask(batcher, 1)
                await asyncio.sleep(0.05)
                await asyncio.gather(first, ask(batcher, 2))
        assert device.passes == [[1, 2]]

    run(scenario())


def test_what_has_waited_for_the_device_does_not_wait_for_company() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device, batch_wait_ms=3000.0, max_batch_size=4) as batcher:
            device.hold()
            await asyncio.sleep(0)
            full = ask(batcher, 1, 2, 3, 4)
            late = ask(batcher, 5)
            await asyncio.sleep(3.2)
            device.release()
            async with asyncio.timeout(2):
                await asyncio.gather(full, late)
        assert device.passes == [[1, 2, 3, 4], [5]]

    run(scenario())


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_bounded_in_items() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device, queue_max_items=3) as batcher:
            tasks = await ask_while_busy(batcher, device, [1, 2])
            with pytest.raises(QueueFull, match="2 windows wait") as refused:
                await ask(batcher, 3, 4)
            assert (refused.value.retry_after_seconds or 0) >= 1
            tasks.append(ask(batcher, 5))
            device.release()
            await asyncio.gather(*tasks)
        assert device.heard == {99, 1, 2, 5}

    run(scenario())


def test_bounded_in_seconds_of_audio() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device, queue_max_audio_seconds=70.0) as batcher:
            tasks = await ask_while_busy(batcher, device, [1, 2])  # 30 s each
            with pytest.raises(QueueFull):
                await ask(batcher, 3)
            deadline = asyncio.get_running_loop().time() + 30
            tasks.append(asyncio.create_task(batcher.listen([window(4, seconds=9.0)], deadline)))
            device.release()
            await asyncio.gather(*tasks)
        assert device.heard == {99, 1, 2, 4}

    run(scenario())


def test_retry_after_follows_from_load_and_measured_rate() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device, queue_max_items=8, max_batch_size=1) as batcher:
            batcher.seconds_per_window = 2.0
            tasks = await ask_while_busy(batcher, device, range(1, 9))
            told = []
            for _ in range(3):
                with pytest.raises(QueueFull) as refused:
                    batcher.check_room(2, 60.0, asyncio.get_running_loop().time() + 1000)
                told.append(refused.value.retry_after_seconds)
            assert told == pytest.approx([5.0, 10.0, 15.0], abs=0.5)  # each gets a turn of its own
            batcher.seconds_per_window = 0.01
            with pytest.raises(QueueFull) as refused:
                batcher.check_room(2, 60.0, asyncio.get_running_loop().time() + 1000)
            assert refused.value.retry_after_seconds == 1.0  # never less
            device.release()
            await asyncio.gather(*tasks)

    run(scenario())


def test_the_first_pass_replaces_the_guess_of_the_rate() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device) as batcher:
            await ask(batcher, 1)
            assert batcher.seconds_per_window < 0.1
            measured = batcher.seconds_per_window
            device.hold()
            slow = ask(batcher, 2)
            await asyncio.sleep(0.5)
            device.release()
            await slow
            assert batcher.seconds_per_window == pytest.approx(0.8 * measured + 0.2 * 0.5, rel=0.5)  # later ones smooth

    run(scenario())


# --- who leaves -------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_during_its_pass_disturbs_nobody() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device) as batcher:
            tasks = await ask_while_busy(batcher, device, [])
            tasks[0].cancel()
            after = ask(batcher, 1)
            device.release()
            assert (await after).features[0, 0] == 1
            assert batcher.healthy

    run(scenario())
