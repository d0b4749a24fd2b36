"""Access to the decoding processes: bounded, measured, under the request's deadline."""

import asyncio
from collections.abc import Callable

from app.audio.pool import DecodePool
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import Recording
from app.errors import AudioError, DeadlineExceeded, QueueFull
from app.serving.metrics import Metrics
from app.serving.retry_after import Throughput


class Decoding:
    """Files being decoded or waiting for a decoder, at most `max_files`."""

    def __init__(self, pool: DecodePool, limits: DecodeLimits, max_files: int, metrics: Metrics) -> None:
        self.files = 0
        self._pool = pool
        self._limits = limits
        self._max_files = max_files
        self._metrics = metrics
        self.throughput = Throughput()

    def check_room(self, deadline: float, retry_after_seconds: Callable[[], float]) -> None:
        """Raises QueueFull if one more file would not be decoded in time. `retry_after_seconds` gives the client a turn."""
        decoded_at = asyncio.get_running_loop().time() + self.files * self.throughput.seconds
        if self.files >= self._max_files or (self.files and decoded_at > deadline):
            raise QueueFull(
                f"{self.files} files wait for a decoder: which is the limit, or too many for the deadline",
                retry_after_seconds=retry_after_seconds(),
            )

    async def load(self, audio: bytes, request: WindowRequest, deadline: float) -> Recording:
        """Raises AudioError, DeadlineExceeded, NotReady."""
        self._count(+1)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._pool.load(audio, request, self._limits)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the audio was being decoded") from None
        except AudioError as error:
            self._metrics.decode_failures.labels(error.code).inc()
            raise
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        now = asyncio.get_running_loop().time()
        if change < 0:
            self.throughput.done(now)
        elif not self.files:
            self.throughput.begin(now)
        self.files += change
        self._metrics.decoding.set(self.files)
