"""More work than there is capacity for; deadlines."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter

import psutil

from loadtest.chaos.rows import Bench, Row, connections_to, in_ms, metadata_seconds, timed
from loadtest.openloop import Connections, Request, Sent, audio_post, open_loop, percentile
from tests.service.faulty import clip
from tests.service.live import LiveServer, wait_until

SECONDS_PER_WINDOW = 0.05
QUEUE_ITEMS = 64
SLOWED = f"device of {1 / SECONDS_PER_WINDOW:.0f} windows/s, queue of {QUEUE_ITEMS}"
CLIP = audio_post(clip(0.3))
REJECTED_SECONDS, LATE_SECONDS = 0.020, 0.050


def overload(bench: Bench) -> list[Row]:
    rows = []
    with bench.server(seconds_per_window=SECONDS_PER_WINDOW, queue_max_items=QUEUE_ITEMS) as (live, _):
        alone = asyncio.run(_one_by_one(live, 15))
        peak = asyncio.run(closed_loop(live, CLIP, min(bench.seconds, 15)))
        for times in (2, 5):
            rows += _overloaded(bench, live, times, peak, alone)
    return rows


async def _one_by_one(live: LiveServer, n: int) -> float:
    """Median seconds of a clip that has the server to itself."""
    async with connections_to(live) as connections:
        return statistics.median([(await timed(connections, CLIP))[1] for _ in range(n)])


async def closed_loop(live: LiveServer, request: bytes, seconds: float) -> float:
    """Answers a second when there are always some in the queue and never too many."""
    ends_at, done = time.monotonic() + seconds, 0

    async def client(connections: Connections) -> None:
        nonlocal done
        while time.monotonic() < ends_at:
            reply = await connections.exchange(request)
            done += reply.status == 200

    async with connections_to(live) as connections:
        await asyncio.gather(*(client(connections) for _ in range(12)))
    return done / seconds


def _overloaded(bench: Bench, live: LiveServer, times: int, peak: float, alone: float) -> list[Row]:
    process = psutil.Process(live.process.pid)
    asyncio.run(open_loop(live.port, _clip, per_second=5 * peak, seconds=4))  # queue and caches fill
    wait_until(lambda: live.metric("lrid_queue_items") == 0)
    before_mb = process.memory_info().rss / 1e6
    sent = asyncio.run(open_loop(live.port, _clip, per_second=times * peak, seconds=bench.seconds))
    recovery = _recovery_seconds(live, alone, sent, bench.seconds)
    grown_mb = process.memory_info().rss / 1e6 - before_mb
    outcomes = Counter(one.status for one in sent)
    answered = [one for one in sent if one.status == 200 and one.due_seconds + one.seconds <= bench.seconds]
    settled = [one for one in answered if one.due_seconds + one.seconds > 1]
    goodput = len(settled) / (bench.seconds - 1)
    refused = [one.seconds for one in sent if one.status == 429]
    what = f"{times} × capacity for {bench.seconds:.0f} s ({SLOWED})"
    share = f"{100 * goodput / peak:.0f} % of the peak of {peak:.1f}/s"
    return [
        Row(f"{what}: goodput", f"{goodput:.1f}/s = {share}; answers by status {dict(sorted(outcomes.items()))}",
            "≥ 90 %; 200 and 429 only", goodput >= 0.9 * peak and set(outcomes) <= {200, 429}),
        Row(f"{what}: time of a refusal", f"{in_ms(refused)} ({len(refused)} of {len(sent)})", "p99 < 20 ms",
            percentile(refused, 0.99) < REJECTED_SECONDS),
        Row(f"{what}: memory of the server", f"{grown_mb:+.1f} MB", "no growth (< 10 MB)", grown_mb < 10),
        Row(f"{what}: recovery after it", f"{recovery:.1f} s until a clip takes as long as before", "≤ 5 s", recovery <= 5),
    ]  # fmt: skip


def _clip(_: int) -> Request:
    return Request("clip", CLIP)


def _recovery_seconds(live: LiveServer, alone: float, sent: list[Sent], load_seconds: float) -> float:
    """After the last request was due: the queue was worked off (open_loop waited for that) and a clip is as fast again."""
    waited = max(one.due_seconds + one.seconds for one in sent) - load_seconds
    began = time.monotonic()
    while asyncio.run(_one_by_one(live, 3)) > 1.5 * alone + 0.02:
        pass
    return max(waited, 0.0) + time.monotonic() - began


def retry_after(bench: Bench) -> list[Row]:
    """A burst of four times what fits, by clients who do as they are told."""
    tries: list[int] = []
    errors: list[float] = []  # seconds from the advised moment to the accepted try

    async def obedient(connections: Connections) -> None:
        advised_at = 0.0
        for count in range(1, 60):
            tried_at = time.monotonic()
            reply = await connections.exchange(CLIP)
            if reply.status == 200:
                tries.append(count)
                if count > 1:
                    errors.append(max(tried_at - advised_at, 0.0))
                return
            assert reply.retry_after_seconds is not None
            advised_at = advised_at or tried_at + reply.retry_after_seconds
            await asyncio.sleep(reply.retry_after_seconds)

    async def burst(live: LiveServer, n: int) -> float:
        async with connections_to(live) as connections:
            began = time.monotonic()
            await asyncio.gather(*(obedient(connections) for _ in range(n)))
            return time.monotonic() - began

    n = 4 * QUEUE_ITEMS
    with bench.server(seconds_per_window=SECONDS_PER_WINDOW, queue_max_items=QUEUE_ITEMS) as (live, _):
        peak = asyncio.run(closed_loop(live, CLIP, 5))
        seconds = asyncio.run(burst(live, n))
    refused = [count for count in tries if count > 1]
    at_once = sum(count == 2 for count in refused) / len(refused)
    idle = 1 - n / peak / seconds
    return [
        Row(
            f"Retry-After is what it says: {n} requests at once, {len(refused)} refused and obeying ({SLOWED})",
            f"{100 * at_once:.0f} % accepted when told, later by {statistics.mean(errors):.1f} s on average "
            f"(p99 {percentile(errors, 0.99):.1f} s), device idle {100 * max(idle, 0):.0f} % of {seconds:.1f} s",
            "≥ 80 % when told, idle ≤ 20 %",
            at_once >= 0.8 and idle <= 0.2 and len(tries) == n,
        )
    ]


def metadata(bench: Bench) -> list[Row]:
    seconds = max(bench.seconds, 10)

    async def beside(live: LiveServer, songs: bytes, per_second: float) -> list[float]:
        load = asyncio.create_task(
            open_loop(live.port, lambda _: Request("song", songs), per_second=per_second, seconds=seconds)
        )
        await asyncio.sleep(2)
        found = await metadata_seconds(live, seconds - 3)
        await load
        return found

    with bench.server(seconds_per_window=SECONDS_PER_WINDOW, queue_max_items=QUEUE_ITEMS) as (live, _):
        asyncio.run(metadata_seconds(live, 2))
        alone = asyncio.run(metadata_seconds(live, seconds / 2))
        queued = asyncio.run(beside(live, CLIP, 2 / SECONDS_PER_WINDOW))
    ratio = percentile(queued, 0.99) / percentile(alone, 0.99)
    return [
        Row(
            f"metadata flows past queued songs (2 × capacity, {SLOWED})",
            f"{in_ms(queued)}; unloaded {in_ms(alone)}: p99 × {ratio:.1f}",
            "p99 ≤ 5 × unloaded",
            ratio <= 5,
        )
    ]


def deadlines(bench: Bench) -> list[Row]:
    async def late(live: LiveServer) -> tuple[list[float], Counter[int], list[float]]:
        lateness, doors = [], []
        statuses: Counter[int] = Counter()
        rng = random.Random(0)

        async def one(connections: Connections) -> None:
            seconds = rng.uniform(0.2, 2.0)
            reply, took = await timed(connections, audio_post(clip(0.3), None, f"X-Request-Timeout: {seconds:.3f}"))
            statuses[reply.status] += 1
            (doors if reply.status == 429 else lateness).append(took - (0 if reply.status == 429 else seconds))

        async with connections_to(live) as connections:
            tasks = []
            for _ in range(int(bench.seconds * 40)):  # twice what the device can do
                tasks.append(asyncio.create_task(one(connections)))
                await asyncio.sleep(0.025)
            await asyncio.gather(*tasks)
        return lateness, statuses, doors

    with bench.server(seconds_per_window=SECONDS_PER_WINDOW) as (live, device):
        asyncio.run(closed_loop(live, CLIP, 2))
        lateness, statuses, doors = asyncio.run(late(live))
        dropped = live.metric("lrid_dropped_windows_total")
        assert asyncio.run(metadata_seconds(live, 0.1))
        heard = len(device.passes)
    after = [seconds for seconds in lateness if seconds > 0]
    return [
        Row(
            f"deadlines of 0.2 to 2 s at 2 × capacity ({SLOWED}): none is answered much later",
            f"answers by status {dict(sorted(statuses.items()))}; {len(after)} came after the deadline, the latest by "
            f"{1000 * max(*after, 0.0):.0f} ms; {dropped:.0f} windows dropped from the queue, {heard} heard",
            "≤ 50 ms",
            max(lateness) <= LATE_SECONDS,
        ),
        Row("those that cannot be met are refused at the door", f"{len(doors)} refused, {in_ms(doors)}", "p99 < 20 ms",
            percentile(doors, 0.99) < REJECTED_SECONDS),
    ]  # fmt: skip
