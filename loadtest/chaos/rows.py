"""A row of the result, and what every scenario needs to fill it."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.client import Connections, json_post, percentile

NAME = json_post({"title": "La vie en rose", "artist": "Édith Piaf"})


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    measured: str
    required: str
    holds: bool

    @property
    def cells(self) -> tuple[str, ...]:
        return self.what, self.measured, self.required, "yes" if self.holds else "**no**"


@dataclass(frozen=True, slots=True)
class Load:
    """What the scenarios send, and for how long."""

    clip: bytes  # a whole request with 30 s of audio
    seconds: float
    clients: int  # idle connections in the scenario `connections`


async def name_seconds(port: int, seconds: float, period_seconds: float = 0.02) -> list[float]:
    """Latencies of a client that asks for a name regularly, one request after the other."""
    found: list[float] = []
    ends_at = time.monotonic() + seconds
    async with Connections(port) as connections:
        while time.monotonic() < ends_at:
            reply, took = await connections.timed(NAME)
            if reply.status != 200:
                raise RuntimeError(f"expected 200, got {reply}")
            found.append(took)
            await asyncio.sleep(period_seconds)
    return found


def in_ms(seconds: Sequence[float]) -> str:
    """`p50 / p99 ms`."""
    values = list(seconds)
    return f"p50 {1000 * statistics.median(values):.1f} / p99 {1000 * percentile(values, 0.99):.1f} ms" if values else "none"
