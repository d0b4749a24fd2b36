"""One line of the table, and what every scenario needs to fill it."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.openloop import Connections, Reply, json_post, percentile
from tests.service.faulty import Device, clip
from tests.service.hard import start
from tests.service.live import LiveServer

METADATA = json_post({"title": "La vie en rose", "artist": "Édith Piaf"})


@dataclass(frozen=True, slots=True)
class Row:
    promise: str
    measured: str
    bar: str
    holds: bool

    @property
    def markdown(self) -> str:
        return f"| {self.promise} | {self.measured} | {self.bar} | {'yes' if self.holds else '**no**'} |"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a scenario works, and for how long."""

    store: Path
    folder: Path
    seconds: float

    @contextlib.contextmanager
    def server(
        self, name: str = "server", *, seconds_per_window: float = 0.0, **settings: object
    ) -> Iterator[tuple[LiveServer, Device]]:
        """A ready server whose device does as it is told."""
        live, device = start(self.store, self.folder / name, model="lrid_net/1", **settings)
        with live:
            live.wait_until_ready().identify(files={"audio": clip(0.3)})  # it learns how much a file is
            if seconds_per_window:
                device.pace(seconds_per_window)
            yield live, device


@contextlib.asynccontextmanager
async def connections_to(live: LiveServer) -> AsyncIterator[Connections]:
    connections = Connections(live.port)
    try:
        yield connections
    finally:
        await connections.close()


async def timed(connections: Connections, request: bytes) -> tuple[Reply, float]:
    """The answer, and how long it took in seconds."""
    began = time.monotonic()
    reply = await connections.exchange(request)
    return reply, time.monotonic() - began


async def metadata_seconds(live: LiveServer, seconds: float, period_seconds: float = 0.02) -> list[float]:
    """Latencies of a client that asks about metadata now and then, one request after the other."""
    found: list[float] = []
    ends_at = time.monotonic() + seconds
    async with connections_to(live) as connections:
        while time.monotonic() < ends_at:
            reply, took = await timed(connections, METADATA)
            assert reply.status == 200, reply
            found.append(took)
            await asyncio.sleep(period_seconds)
    return found


def in_ms(seconds: Sequence[float]) -> str:
    """`p50 / p99 ms`."""
    values = list(seconds)
    return f"p50 {1000 * statistics.median(values):.1f} / p99 {1000 * percentile(values, 0.99):.1f} ms" if values else "none"
