"""What the tests of the pool and of its processes share."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import numpy as np

from app.audio.decode import load_recording
from app.audio.pool import DecodePool
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Recording
from tests import audio_samples as samples_of

REQUEST = WindowRequest(WindowSpec(22_050, 22_050 * 5), 3)
LIMITS = DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)
LOADER = "tests.unit.audio.faulty_loaders:load"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(coroutine, 60)

    return asyncio.run(bounded())


def ask(pool: DecodePool, data: bytes) -> Recording:
    recording: Recording = run(pool.load(data, REQUEST, LIMITS))
    return recording


def assert_works(pool: DecodePool) -> None:
    data = samples_of.wav(samples_of.song(7))
    got, expected = ask(pool, data), load_recording(data, REQUEST, LIMITS)
    assert (got.seconds, got.format, len(got.windows)) == (expected.seconds, expected.format, 2)
    for a, b in zip(got.windows, expected.windows, strict=True):
        assert (a.start_seconds, a.seconds) == (b.start_seconds, b.seconds)
        assert np.array_equal(a.samples, b.samples)
