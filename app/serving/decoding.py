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
        self.throughput = throughput = Throughput()
        self._pool = pool
        self._limits = limits
        self._max_files = max_files
        self._failures = metrics.decode_failures
        metrics.decoding.set_function(lambda: throughput.in_progress)

    def check_room(self, deadline: float, retry_after_seconds: Callable[[], float]) -> None:
        """Raises QueueFull if one more file would not be decoded in time. `retry_after_seconds` gives the client a turn."""
        files = self.throughput.in_progress
        decoded_at = asyncio.get_running_loop().time() + files * self.throughput.seconds
        if files >= self._max_files or (files and decoded_at > deadline):
            raise QueueFull(
                f"{files} files wait for a decoder: which is the limit, or too many for the deadline",
                retry_after_seconds=retry_after_seconds(),
            )

    async def load(self, audio: bytes, request: WindowRequest, deadline: float) -> Recording:
        """Raises AudioError, DeadlineExceeded, NotReady."""
        try:
            with self.throughput.piece():
                async with asyncio.timeout_at(deadline):
                    return await self._pool.load(audio, request, self._limits)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the audio was being decoded") from None
        except AudioError as error:
            self._failures.labels(error.code).inc()
            raise
