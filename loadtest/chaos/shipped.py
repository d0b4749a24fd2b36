"""Overload of the release that ships, with nothing slowed or faked: decoders, network and event loop share this machine."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from loadtest.chaos.overload import REJECTED_SECONDS, closed_loop
from loadtest.chaos.rows import Bench, Row, in_ms, metadata_seconds
from loadtest.openloop import Request, Sent, audio_post, open_loop, percentile
from loadtest.sounds import encoded
from tests.service.live import LiveServer, wait_until

CLIP_SECONDS = 30.0
TIMES = (2, 5)


def shipped(bench: Bench) -> list[Row]:
    clip = audio_post(encoded(CLIP_SECONDS, 1, "MP3"))
    settings = {"precision": "auto", "torch_threads": 0}
    with LiveServer(bench.folder, extra={"OMP_NUM_THREADS": str(os.cpu_count())}, **settings) as live:
        live.wait_until_ready()
        asyncio.run(metadata_seconds(live, 2))
        alone = asyncio.run(metadata_seconds(live, 10))
        peak = asyncio.run(closed_loop(live, clip, min(bench.seconds, 20)))
        rows = []
        for times in TIMES:
            wait_until(lambda: live.metric("lrid_in_flight_requests") == 0)
            sent, metadata = asyncio.run(_beside(live, clip, times * peak, bench.seconds))
            what = f"{times} × capacity for {bench.seconds:.0f} s, the release that ships"
            rows += _rows(what, sent, metadata, alone, peak)
    return rows


async def _beside(live: LiveServer, clip: bytes, per_second: float, seconds: float) -> tuple[list[Sent], list[float]]:
    loading = asyncio.create_task(
        open_loop(live.port, lambda _: Request("clip", clip), per_second=per_second, seconds=seconds)
    )
    await asyncio.sleep(2)
    metadata = await metadata_seconds(live, seconds - 3)
    return await loading, metadata


def _rows(what: str, sent: list[Sent], metadata: list[float], alone: list[float], peak: float) -> list[Row]:
    outcomes = Counter(one.status for one in sent)
    refused = [one.seconds for one in sent if one.status == 429]
    ended = max(one.due_seconds + one.seconds for one in sent)
    goodput = outcomes[200] / ended
    ratio = percentile(metadata, 0.99) / percentile(alone, 0.99)
    answers = f"answers by status {dict(sorted(outcomes.items()))}"
    return [
        Row(f"{what}: goodput", f"{goodput:.1f}/s = {100 * goodput / peak:.0f} % of the peak of {peak:.1f}/s; {answers}",
            "≥ 90 %; 200 and 429 only", goodput >= 0.9 * peak and set(outcomes) <= {200, 429}),
        Row(f"{what}: time of a refusal", f"{in_ms(refused)} ({len(refused)} of {len(sent)})", "p99 < 20 ms",
            bool(refused) and percentile(refused, 0.99) < REJECTED_SECONDS),
        Row(f"{what}: metadata beside it", f"{in_ms(metadata)}; unloaded {in_ms(alone)}: p99 × {ratio:.1f}",
            "p99 ≤ 5 × unloaded", ratio <= 5),
    ]  # fmt: skip
