"""Dynamic batching: what becomes of passes and devices that fail."""

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Draining, LridError, ModelFailed, NotReady
from app.serving.batcher import Batcher
from tests.unit.serving.batching import (
    Device,
    ask,
    ask_while_busy,
    batching,
    die,
    fail,
    features_of,
    give_nan,
    lose_a_row,
    outcomes,
    run,
    until,
    value,
)

# --- what goes wrong with a pass --------------------------------------------------------------------------------------

POISON = 13


@pytest.mark.parametrize("fault", [fail, give_nan(POISON), lose_a_row], ids=["raises", "NaN", "too few rows"])
def test_a_poisoned_window_fails_alone(fault: Any) -> None:
    """Of 32 in flight 31 get their answer, as in an undisturbed run."""

    async def scenario() -> None:
        device = Device({POISON: fault})
        async with batching(device, max_batch_size=32) as batcher:
            first, *tasks = await ask_while_busy(batcher, device, range(32))
            device.release()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await first
            assert batcher.healthy
        assert outcomes(results) == [ModelFailed if number == POISON else [number] for number in range(32)]
        assert len(device.passes) <= 2 + 2 * 5  # halves of 32, down to one

    run(scenario())


def test_of_one_request_with_a_poisoned_window_nothing_is_left() -> None:
    async def scenario() -> None:
        device = Device({POISON: fail})
        async with batching(device) as batcher:
            results = await asyncio.gather(ask(batcher, 1, POISON, 2), ask(batcher, 3), return_exceptions=True)
        assert outcomes(results) == [ModelFailed, [3]]

    run(scenario())


def test_a_model_that_is_broken_for_all_fails_all() -> None:
    async def scenario() -> None:
        device = Device(dict.fromkeys(range(8), fail))
        async with batching(device) as batcher:
            first, *tasks = await ask_while_busy(batcher, device, range(8))
            device.release()
            assert outcomes(await asyncio.gather(*tasks, return_exceptions=True)) == [ModelFailed] * 8
            await first
            device.faults.clear()
            assert outcomes([await ask(batcher, 1)]) == [[1]]

    run(scenario())


def test_out_of_memory_halves_the_batches_and_goes_on() -> None:
    def out_of_memory(numbers: list[int], rows: np.ndarray) -> np.ndarray:
        if len(numbers) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return rows

    async def scenario() -> None:
        device = Device(dict.fromkeys(range(32), out_of_memory))
        async with batching(device) as batcher:
            first, *tasks = await ask_while_busy(batcher, device, range(24))
            device.release()
            assert outcomes(await asyncio.gather(first, *tasks)) == [[99], *([n] for n in range(24))]
        sizes = [len(numbers) for numbers in device.passes]
        assert sizes == [1, 8, 4, 2, 2, 4, 2, 2, *[2] * 8]

    run(scenario())


# --- what goes wrong with the device ----------------------------------------------------------------------------------


# The default hook of threads says nothing about SystemExit; pytest's does.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


async def check_restart(batcher: Batcher, device: Device, restarts: int = 1) -> None:
    """Unhealthy until the new thread has listened to silence; then all is as before."""
    assert not batcher.healthy
    device.faults.clear()
    await until(lambda: batcher.healthy)
    assert device.passes[-1] == [0]
    assert value(batcher, "lrid_device_restarts_total") == restarts
    assert outcomes([await ask(batcher, 1)]) == [[1]]


@pytest.mark.parametrize("rows", [None, "words", [["a", "b", "c"]], np.full((1, 3), "x", object)])
def test_a_model_that_gives_no_numbers_at_all(rows: Any) -> None:
    async def scenario() -> None:
        device = Device({POISON: lambda numbers, _: rows if len(numbers) == 1 else fail(numbers, _)})
        async with batching(device) as batcher:
            results = await asyncio.gather(ask(batcher, 1), ask(batcher, POISON), ask(batcher, 2), return_exceptions=True)
            assert outcomes(results) == [[1], ModelFailed, [2]]
            assert batcher.healthy

    run(scenario())


@dies
def test_a_thread_that_dies_in_the_second_attempt() -> None:
    """The other half of the batch is answered too, not forgotten."""

    async def scenario() -> None:
        device = Device({1: die, 8: fail})
        device.faults[1] = lambda numbers, rows: die(numbers, rows) if len(numbers) < 8 else fail(numbers, rows)
        async with batching(device) as batcher:
            first, *tasks = await ask_while_busy(batcher, device, range(1, 9))
            device.release()
            async with asyncio.timeout(5):
                results = await asyncio.gather(first, *tasks, return_exceptions=True)
            assert outcomes(results) == [[99], *[NotReady] * 8]
            await check_restart(batcher, device)

    run(scenario())


@dies
def test_a_device_that_stays_lost_is_tried_again() -> None:
    async def scenario() -> None:
        device = Device({POISON: die, 0: fail})  # 0 is the probe
        async with batching(device) as batcher:
            with pytest.raises(NotReady):
                await ask(batcher, POISON)
            await until(lambda: value(batcher, "lrid_device_restarts_total") == 2)
            await check_restart(batcher, device, restarts=int(value(batcher, "lrid_device_restarts_total")))

    run(scenario())


def test_stop_refuses_what_still_waits() -> None:
    async def scenario() -> None:
        device = Device()
        async with batching(device) as batcher:
            tasks = await ask_while_busy(batcher, device, [1, 2])
            await batcher.stop()
            assert not batcher.healthy
            assert outcomes(await asyncio.gather(*tasks, return_exceptions=True)) == [Draining] * 3

    run(scenario())


FAULTS: dict[str, Any] = {"none": None, "fail": fail, "die": die, "lose": lose_a_row}


@dies
@settings(max_examples=15)
@given(
    requests=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(sorted(FAULTS)), st.booleans()), min_size=1, max_size=12),
    max_batch_size=st.integers(1, 5),
)
def test_everybody_gets_an_answer(requests: list[tuple[int, str, bool]], max_batch_size: int) -> None:
    """Whatever fails, dies or leaves: no caller waits for ever, and no answer is another's."""

    async def scenario() -> None:
        numbers = iter(range(100, 1000))
        own = [[next(numbers) for _ in range(count)] for count, _, _ in requests]
        device = Device({mine[0]: FAULTS[fault] for mine, (_, fault, _) in zip(own, requests, strict=True)})
        async with batching(device, max_batch_size=max_batch_size) as batcher:
            first = (await ask_while_busy(batcher, device, []))[0]
            tasks = [ask(batcher, *mine) for mine in own]
            await asyncio.sleep(0.01)
            for task, (_, _, leaves) in zip(tasks, requests, strict=True):
                if leaves:
                    task.cancel()
            device.release()
            async with asyncio.timeout(15):
                results = await asyncio.gather(first, *tasks, return_exceptions=True)
        for mine, result, (_, _, leaves) in zip(own, results[1:], requests, strict=True):
            if isinstance(result, BaseException):
                assert isinstance(result, asyncio.CancelledError if leaves else LridError)
            else:
                assert np.array_equal(result.features, np.stack([features_of(number) for number in mine]))

    run(scenario())


def test_features_are_of_one_s_own_windows_under_load() -> None:
    async def scenario() -> None:
        device = Device()
        rng = np.random.default_rng(0)
        own = [rng.integers(1, 1000, rng.integers(1, 6)).tolist() for _ in range(100)]
        async with batching(device, max_batch_size=7) as batcher:
            results = await asyncio.gather(*(ask(batcher, *mine) for mine in own))
        assert outcomes(results) == own
        assert all(len(a) == 7 for a, _ in pairwise(device.passes[1:]))

    run(scenario())
