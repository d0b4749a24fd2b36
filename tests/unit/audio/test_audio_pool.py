"""The pool of decoders: right answers in parallel, in the right order, and an end for all that wait."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest

from app.audio.decode import load_recording
from app.audio.pool import DecodePool
from app.audio.spec import WindowRequest, WindowSpec
from app.domain import Metadata, Recording
from app.errors import AudioCorrupt, AudioUnknownFormat, DecoderCrashed, NotReady
from tests import audio_samples as samples_of
from tests.unit.audio.pools import LIMITS, LOADER, REQUEST, ask, run


@pytest.fixture(scope="module")
def plain_pool() -> Iterator[DecodePool]:
    """As the service has it."""
    pool = DecodePool(workers=1, timeout_seconds=10.0, memory_mb=1024)
    yield pool
    pool.close()


@pytest.mark.parametrize("name", samples_of.WHOLE)
def test_same_answer_as_in_process(plain_pool: DecodePool, name: str) -> None:
    data = samples_of.WHOLE[name]()
    got, expected = ask(plain_pool, data), load_recording(data, REQUEST, LIMITS)
    assert np.array_equal(got.windows[0].samples, expected.windows[0].samples)


def test_warnings_and_tags_come_back(plain_pool: DecodePool) -> None:
    data = b"ID3\x03\0\0\0\0\0\x0f" + b"TIT2\0\0\0\x05\0\0\0abcd" + samples_of.cut(samples_of.mp3(samples_of.song(20)))
    request = WindowRequest(WindowSpec(22_050, 22_050 * 2, positions=(0.5, 0.3, 0.7)), 3, skip=1, take=1, read_tags=True)
    got, expected = run(plain_pool.load(data, request, LIMITS)), load_recording(data, request, LIMITS)
    assert [warning.code for warning in got.warnings] == ["truncated"]
    assert got.tags == Metadata(title="abcd")
    assert (got.next_index, got.planned) == (2, 3)
    assert replace(got, windows=()) == replace(expected, windows=())


def test_an_audio_error_keeps_its_class_and_detail(shared_pool: DecodePool) -> None:
    with pytest.raises(AudioCorrupt, match=r"Expected this; that came\."):
        ask(shared_pool, b"corrupt")
    with pytest.raises(AudioUnknownFormat):
        ask(shared_pool, b"no audio")


def test_decoders_run_in_parallel(shared_pool: DecodePool) -> None:
    async def both() -> list[Recording]:
        return await asyncio.gather(*(shared_pool.load(b"sleep 0.5", REQUEST, LIMITS) for _ in range(2)))

    first, second = run(both())
    assert first.format != second.format  # process ids


def test_further_windows_of_a_file_come_before_new_files() -> None:
    ended: list[int] = []

    async def one(pool: DecodePool, number: int, skip: int) -> None:
        await pool.load(b"sleep 0.05", replace(REQUEST, skip=skip), LIMITS)
        ended.append(number)

    async def scenario(pool: DecodePool) -> None:
        tasks = [asyncio.create_task(one(pool, number, skip)) for number, skip in enumerate([0, 0, 0, 2, 1])]
        await asyncio.gather(*tasks)

    with closing(DecodePool(workers=1, timeout_seconds=10.0, memory_mb=512, loader=LOADER)) as pool:
        run(scenario(pool))
    assert ended == [3, 4, 0, 1, 2]  # all are there before the process is


def test_many_at_once_are_not_mixed_up(shared_pool: DecodePool) -> None:
    async def storm() -> list[Any]:
        jobs = [shared_pool.load(samples_of.wav(samples_of.tone(hz=100.0 + 10 * i)), REQUEST, LIMITS) for i in range(20)]
        jobs += [shared_pool.load(b"kill", REQUEST, LIMITS) for _ in range(4)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    *whole, a, b, c, d = run(storm())
    assert all(isinstance(error, DecoderCrashed) for error in (a, b, c, d))
    for i, recording in enumerate(whole):
        spectrum = np.abs(np.fft.rfft(recording.windows[0].samples[:22_050]))
        assert spectrum.argmax() == pytest.approx(100 + 10 * i, abs=1)


def test_cancelling_frees_the_decoder() -> None:
    pool = DecodePool(workers=1, timeout_seconds=60.0, memory_mb=512, loader=LOADER)

    async def scenario() -> Recording:
        await pool.load(b"pid", REQUEST, LIMITS)  # started
        running = asyncio.create_task(pool.load(b"hang", REQUEST, LIMITS))
        waiting = asyncio.create_task(pool.load(b"hang", REQUEST, LIMITS))
        await asyncio.sleep(0.5)
        assert pool.waiting == 1
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert running.cancelled()
        return await asyncio.wait_for(pool.load(b"pid", REQUEST, LIMITS), 10)

    with closing(pool):
        assert run(scenario()).seconds == 1.0


def test_a_quick_job_survives_its_callers_leaving() -> None:
    """A client that leaves must not cost a restart when the work is all but done."""
    pool = DecodePool(workers=1, timeout_seconds=60.0, memory_mb=512, loader=LOADER)

    async def scenario() -> tuple[str, str]:
        before = (await pool.load(b"pid", REQUEST, LIMITS)).format
        leaving = asyncio.create_task(pool.load(b"sleep 0.15", REQUEST, LIMITS))
        await asyncio.sleep(0.1)  # the decoder is at work, and all but done
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        return before, (await pool.load(b"pid", REQUEST, LIMITS)).format

    with closing(pool):  # the grace is 0.2 s, which a busy machine may miss once, but not always
        assert any(before == after for before, after in (run(scenario()) for _ in range(5)))


@pytest.mark.parametrize("after_seconds", [0.0, 0.05, 0.5])  # before the process is ready, and in the middle of a file
def test_closing_ends_everything_and_keeps_nobody_waiting(after_seconds: float) -> None:
    pool = DecodePool(workers=1, timeout_seconds=60.0, memory_mb=512, loader=LOADER)

    async def scenario() -> list[Any]:
        jobs = [asyncio.create_task(pool.load(b"hang", REQUEST, LIMITS)) for _ in range(3)]
        await asyncio.sleep(after_seconds)
        await asyncio.to_thread(pool.close)
        return await asyncio.gather(*jobs, return_exceptions=True)

    before = {p.pid for p in psutil.Process().children()}
    outcomes = run(scenario())
    assert [type(outcome) for outcome in outcomes] == [NotReady] * 3
    assert {p.pid for p in psutil.Process().children()} <= before
    assert not pool.healthy
    with pytest.raises(NotReady):
        ask(pool, b"pid")
    pool.close()  # again is fine


def test_nothing_starts_before_it_is_needed() -> None:
    pool = DecodePool(workers=2, timeout_seconds=10.0, memory_mb=512)
    assert not pool.healthy
    pool.close()
