import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # so that `tests.audio_samples` imports, here and in workers

from app.audio.pool import DecodePool
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from tests.unit.audio.pools import LOADER


@pytest.fixture
def spec() -> WindowSpec:
    return WindowSpec(sample_rate_hz=22_050, window_samples=661_500)


@pytest.fixture
def request_8(spec: WindowSpec) -> WindowRequest:
    return WindowRequest(spec, max_windows=8)


@pytest.fixture
def limits() -> DecodeLimits:
    return DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[DecodePool]:
    pool = DecodePool(workers=2, timeout_seconds=10.0, memory_mb=512, loader=LOADER)
    yield pool
    pool.close()
