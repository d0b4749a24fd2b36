"""SIGTERM in the middle of everything."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from loadtest.chaos.rows import Bench, Row
from loadtest.openloop import Connections, Reply, audio_post
from tests.service.faulty import clip
from tests.service.live import LiveServer, wait_until

SECONDS_PER_WINDOW = 0.05
IN_FLIGHT = 120


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
