"""SIGTERM in the middle of everything."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter

from loadtest.balancer import Balancer
from loadtest.chaos.rows import Bench, Row
from loadtest.openloop import Connections, Reply, Request, audio_post, json_post, open_loop
from tests.service.faulty import clip
from tests.service.live import LiveServer, wait_until

SECONDS_PER_WINDOW = 0.05
IN_FLIGHT = 120
GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
DELAY_SECONDS = 3.0


def sigterm(bench: Bench) -> list[Row]:
    rows = []
    with bench.server(seconds_per_window=SECONDS_PER_WINDOW, decode_queue_max=IN_FLIGHT) as (live, _):
        replies, seconds, code = asyncio.run(_end_under_load(live))
    statuses = Counter(reply.status for reply in replies)
    rows.append(
        Row(
            f"SIGTERM with {IN_FLIGHT} requests accepted: each is answered",
            f"answers by status {dict(statuses)}; exit code {code} after {seconds:.1f} s",
            "all, exit code 0",
            statuses[200] == IN_FLIGHT and code == 0,
        )
    )
    with bench.server("twice", decode_queue_max=IN_FLIGHT) as (live, device):
        device.hold()
        replies, seconds, code = asyncio.run(_end_under_load(live, again_after_seconds=1.0))
    rows.append(
        Row(
            "a second SIGTERM ends it",
            f"exit code {code} {seconds - 1:.1f} s after it; answers by status {dict(Counter(x.status for x in replies))}",
            "≤ 5 s, exit code 0",
            seconds - 1 <= 5 and code == 0,
        )
    )
    with bench.server("bounded", decode_queue_max=IN_FLIGHT, drain_timeout_seconds=3) as (live, device):
        device.hold()
        _, seconds, code = asyncio.run(_end_under_load(live))
    rows.append(
        Row("LRID_DRAIN_TIMEOUT_SECONDS=3 ends it", f"exit code {code} after {seconds:.1f} s", "≤ 6 s, exit code 0",
            seconds <= 6 and code == 0)
    )  # fmt: skip
    return rows


async def _end_under_load(live: LiveServer, again_after_seconds: float = 0.0) -> tuple[list[Reply], float, int]:
    """The answers of those who were accepted before the signal, seconds until the process ended, its exit code."""
    connections = Connections(live.port)
    tasks = [asyncio.create_task(connections.exchange(audio_post(clip(0.2 + 0.001 * i)))) for i in range(IN_FLIGHT)]

    def accepted() -> bool:
        return live.metric("lrid_in_flight_requests") + sum(task.done() for task in tasks) >= IN_FLIGHT

    await asyncio.to_thread(wait_until, accepted)
    began = time.monotonic()
    live.terminate()
    if again_after_seconds:
        await asyncio.sleep(again_after_seconds)
        live.terminate()
    code = await asyncio.to_thread(live.exit_code)
    seconds = time.monotonic() - began
    replies = await asyncio.gather(*tasks)
    await connections.close()
    return replies, seconds, code


def rolling(bench: Bench) -> list[Row]:
    """Two servers behind a balancer are replaced by two others, one after the other."""
    requests = [audio_post(clip(0.3), None, "Connection: close"), *[json_post(GOOD, "Connection: close")] * 4]

    def make(number: int) -> Request:
        return Request("any", requests[number % len(requests)])

    async def run(stack: contextlib.ExitStack) -> Counter[int]:
        def server(name: str) -> LiveServer:
            return stack.enter_context(bench.server(name, drain_delay_seconds=DELAY_SECONDS))[0]

        first = [server(f"old-{i}") for i in range(2)]
        async with Balancer([live.port for live in first]) as balancer:
            ends = asyncio.Event()

            async def load() -> Counter[int]:
                outcomes: Counter[int] = Counter()
                while not ends.is_set():
                    sent = await open_loop(balancer.port, make, per_second=25, seconds=1)
                    outcomes.update(one.status for one in sent)
                return outcomes

            loading = asyncio.create_task(load())
            for i, old in enumerate(first):
                balancer.add((await asyncio.to_thread(server, f"new-{i}")).port)
                old.terminate()
                await asyncio.to_thread(old.exit_code)
                balancer.remove(old.port)
            await asyncio.sleep(1)
            ends.set()
            return await loading

    with contextlib.ExitStack() as stack:
        outcomes = asyncio.run(run(stack))
    failed = sum(n for status, n in outcomes.items() if status != 200)
    return [
        Row(
            f"rolling restart of two servers behind a balancer (LRID_DRAIN_DELAY_SECONDS={DELAY_SECONDS:g})",
            f"{failed} of {outcomes.total()} requests failed",
            "0",
            failed == 0,
        )
    ]
