"""Clients that disconnect, that are slow, and that break the rules of HTTP."""

import asyncio
import random
import subprocess
import sys

from loadtest.chaos.rows import Load, Row, in_ms, name_seconds
from loadtest.client import percentile
from loadtest.servers import REPOSITORY, server, wait_until

SLOW, ODD = 200, 20
DISCONNECTS = 30  # of each kind


def disconnects(load: Load) -> list[Row]:
    """Clients hang up during the upload, during decoding, and in the queue."""
    rng = random.Random(0)

    async def leave(port: int, share: float, stays_seconds: float) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(load.clip[: int(len(load.clip) * share)])
        await asyncio.sleep(stays_seconds)
        writer.transport.abort()

    async def run(port: int) -> None:
        for share, stays_seconds in ((rng.uniform(0.1, 0.9), 0.2), (1.0, 0.02), (1.0, 0.05)):
            await asyncio.gather(*(leave(port, share, stays_seconds) for _ in range(DISCONNECTS)))

    with server() as running:
        asyncio.run(name_seconds(running.port, 1))
        asyncio.run(run(running.port))
        running.wait_until_idle()
        after = asyncio.run(name_seconds(running.port, 1))
        gone = running.metric("lrid_requests_total", 'outcome="client_gone"')
        dropped = running.metric("lrid_dropped_windows_total")
    measured = f"{gone:.0f} counted as client_gone, {dropped:.0f} windows dropped from the queue; names after {in_ms(after)}"
    what, required = f"{3 * DISCONNECTS} clients disconnect", "most counted; nothing left in flight"
    return [Row(what, measured, required, gone >= 2 * DISCONNECTS)]


def connections(load: Load) -> list[Row]:
    what = f"{load.clients:,} idle connections, {SLOW} slow headers and {SLOW} uploads of 1 byte/s, renewed when closed"
    return [_attacked(what, (load.clients, SLOW, SLOW, 0))]


def odd(_: Load) -> list[Row]:
    what = f"{ODD} × headers of 80 kB, {ODD} × 5 pipelined requests unread, {ODD // 4} half-closed uploads, anew each second"
    return [_attacked(what, (0, 0, 0, ODD))]


def _attacked(what: str, numbers: tuple[int, int, int, int]) -> Row:
    """Attack from another process, so that the attack does not slow the client down."""
    with server() as running:
        asyncio.run(name_seconds(running.port, 2))
        alone = asyncio.run(name_seconds(running.port, 10))
        before_mb, before_fds = running.rss_mb, running.process.num_fds()
        command = [sys.executable, "-m", "loadtest.chaos.attacker", str(running.port), *map(str, numbers)]
        attacker = subprocess.Popen(command, cwd=REPOSITORY)
        wait_until(lambda: running.process.num_fds() - before_fds >= 0.95 * sum(numbers[:3]) + numbers[3])
        open_at_once = running.process.num_fds() - before_fds
        during = asyncio.run(name_seconds(running.port, 10))
        held_mb = running.rss_mb - before_mb
        attacker.terminate()
        attacker.wait()
        wait_until(lambda: running.process.num_fds() <= before_fds + 5)
    ratio = percentile(during, 0.99) / percentile(alone, 0.99)
    return Row(
        what,
        f"{open_at_once:,} open; names {in_ms(during)}, before {in_ms(alone)}: p99 × {ratio:.1f}; {held_mb:+.0f} MB, all "
        "closed afterwards",
        "p99 of names ≤ 2 ×",
        ratio <= 2,
    )
