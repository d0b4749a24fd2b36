"""More work than the server can do: goodput, rejections, recovery, deadlines, Retry-After."""

import asyncio
import random
import statistics
import time
from collections import Counter

from app.client import AsyncLridClient, RequestRefused
from loadtest.chaos.rows import Load, Row, in_ms, name_seconds
from loadtest.client import Connections, Sent, closed_loop, open_loop, percentile
from loadtest.servers import Server, server
from loadtest.sounds import encoded

TIMES = (2, 5)  # of the peak
AT_ONCE = 12  # clients that find the peak
REJECTED_SECONDS = 0.02
LATE_SECONDS = 0.1
QUEUE_ITEMS = 16


def overload(load: Load) -> list[Row]:
    """Clips at 2 and 5 times the peak, then the same with names beside them."""
    with server() as running:
        asyncio.run(name_seconds(running.port, 2))
        alone = asyncio.run(name_seconds(running.port, 5))
        peak = asyncio.run(closed_loop(running.port, [load.clip], at_once=AT_ONCE, seconds=min(load.seconds, 20)))
        rows = []
        for times in TIMES:
            running.wait_until_idle()
            before_mb = running.rss_mb
            sent = asyncio.run(open_loop(running.port, lambda _: load.clip, per_second=times * peak, seconds=load.seconds))
            began = time.monotonic()
            running.wait_until_idle()
            waited = max(one.due_seconds + one.seconds for one in sent) - load.seconds + time.monotonic() - began
            what = f"{times} × capacity for {load.seconds:.0f} s"
            rows += _overloaded(what, sent, peak, running.rss_mb - before_mb, waited)
            rows.append(_beside_names(what, running, load, times * peak, alone))
    return rows


def _overloaded(what: str, sent: list[Sent], peak: float, grown_mb: float, waited_seconds: float) -> list[Row]:
    outcomes = Counter(one.status for one in sent)
    rejected = [one.seconds for one in sent if one.status == 429]
    goodput = _goodput(sent)
    share = f"{goodput:.1f}/s = {100 * goodput / peak:.0f} % of the peak of {peak:.1f}/s"
    return [
        Row(f"{what}: goodput", f"{share}; answers by status {dict(sorted(outcomes.items()))}",
            "≥ 90 %; 200 and 429 only", goodput >= 0.9 * peak and set(outcomes) <= {200, 429}),
        Row(f"{what}: time of a rejection", f"{in_ms(rejected)} ({len(rejected)} of {len(sent)})", "p99 < 20 ms",
            bool(rejected) and percentile(rejected, 0.99) < REJECTED_SECONDS),
        Row(f"{what}: afterwards", f"idle after {waited_seconds:.1f} s, memory of the server {grown_mb:+.0f} MB",
            "≤ 10 s, < 50 MB", waited_seconds <= 10 and grown_mb < 50),
    ]  # fmt: skip


def _goodput(sent: list[Sent]) -> float:
    """Good answers per second, until the last of them."""
    return sum(one.status == 200 for one in sent) / max(one.due_seconds + one.seconds for one in sent)


def _beside_names(what: str, running: Server, load: Load, per_second: float, alone: list[float]) -> Row:
    async def run() -> list[float]:
        clips = open_loop(running.port, lambda _: load.clip, per_second=per_second, seconds=load.seconds)
        loading = asyncio.create_task(clips)
        await asyncio.sleep(2)
        found = await name_seconds(running.port, max(load.seconds - 3, 1))
        await loading
        return found

    names = asyncio.run(run())
    ratio = percentile(names, 0.99) / percentile(alone, 0.99)
    measured = f"{in_ms(names)}; unloaded {in_ms(alone)}: p99 × {ratio:.1f}"
    return Row(f"{what}: {len(names)} names beside it", measured, "p99 ≤ 5 × unloaded", ratio <= 5)


def retry_after(load: Load) -> list[Row]:
    """Send four times what fits at once, from clients that wait as long as they are told."""
    tries: list[int] = []
    late: list[float] = []  # seconds from the advised moment to the accepted try

    async def obedient(client: AsyncLridClient, clip: bytes) -> None:
        advised_at = 0.0
        for count in range(1, 60):
            tried_at = time.monotonic()
            try:
                await client.identify(clip)
            except RequestRefused as refused:
                wait_seconds = refused.retry_after_seconds or 1.0
                advised_at = advised_at or tried_at + wait_seconds
                await asyncio.sleep(wait_seconds)
            else:
                tries.append(count)
                late.extend([max(tried_at - advised_at, 0.0)] if count > 1 else [])
                return

    async def burst(port: int, n: int) -> None:
        clip = encoded(30.0, 1, "MP3")
        async with AsyncLridClient(f"http://127.0.0.1:{port}", retries=False) as client:
            await asyncio.gather(*(obedient(client, clip) for _ in range(n)))

    n = 4 * QUEUE_ITEMS
    with server(LRID_QUEUE_MAX_ITEMS=str(QUEUE_ITEMS), LRID_MAX_WINDOWS=str(QUEUE_ITEMS)) as running:
        asyncio.run(closed_loop(running.port, [load.clip], at_once=AT_ONCE, seconds=5))
        asyncio.run(burst(running.port, n))
    rejected = [count for count in tries if count > 1]
    told = sum(count == 2 for count in rejected) / max(len(rejected), 1)
    return [
        Row(
            f"Retry-After: {n} requests at once, {len(rejected)} rejected, which wait as told",
            f"{100 * told:.0f} % accepted when told, later by {statistics.mean(late or [0.0]):.1f} s on average",
            "≥ 80 %, all answered",
            told >= 0.8 and len(tries) == n,
        )
    ]


def deadlines(load: Load) -> list[Row]:
    """Deadlines of 0.3 to 3 s at twice the capacity."""
    lateness: list[float] = []
    statuses: Counter[int] = Counter()
    rng = random.Random(0)
    head, _, body = load.clip.partition(b"\r\n\r\n")

    async def one(connections: Connections) -> None:
        seconds = rng.uniform(0.3, 3.0)
        request = head + f"\r\nX-Request-Timeout: {seconds:.3f}\r\n\r\n".encode() + body
        reply, took = await connections.timed(request)
        statuses[reply.status] += 1
        lateness.append(took - seconds)

    async def run(port: int, per_second: float) -> None:
        async with Connections(port) as connections:
            tasks = []
            for _ in range(int(load.seconds * per_second)):
                tasks.append(asyncio.create_task(one(connections)))
                await asyncio.sleep(1 / per_second)
            await asyncio.gather(*tasks)

    with server() as running:
        peak = asyncio.run(closed_loop(running.port, [load.clip], at_once=AT_ONCE, seconds=5))
        asyncio.run(run(running.port, 2 * peak))
    after = [seconds for seconds in lateness if seconds > 0]
    measured = f"answers by status {dict(sorted(statuses.items()))}; {len(after)} late, the latest by "
    measured += f"{1000 * max(after, default=0.0):.0f} ms"
    required = f"≤ {1000 * LATE_SECONDS:.0f} ms"
    return [Row("deadlines of 0.3 to 3 s at 2 × capacity", measured, required, max(lateness) <= LATE_SECONDS)]
