"""Overload of the release that ships, with nothing slowed or faked: decoders, network and event loop share this machine."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from app.settings import Settings
from loadtest.chaos.overload import REJECTED_SECONDS, closed_loop
from loadtest.chaos.rows import Bench, Row, in_ms, metadata_seconds
from loadtest.openloop import Request, Sent, audio_post, open_loop, percentile
from loadtest.sounds import encoded
from tests.service.live import LiveServer, wait_until

CLIP_SECONDS = 30.0
TIMES = (2, 5)


def shipped(bench: Bench) -> list[Row]:
    clip = audio_post(encoded(CLIP_SECONDS, 1, "MP3"))
    settings = {"model": Settings().model, "precision": "auto", "torch_threads": 0}
    with LiveServer(bench.folder, extra={"OMP_NUM_THREADS": str(os.cpu_count())}, **settings) as live:
        live.wait_until_ready()
        asyncio.run(metadata_seconds(live, 2))
        alone = asyncio.run(metadata_seconds(live, 10))
        peak = asyncio.run(closed_loop(live, clip, min(bench.seconds, 20)))
        rows = []
        for times in TIMES:
            what = f"{times} × capacity for {bench.seconds:.0f} s, the release that ships"
            _wait_until_idle(live)
            sent = asyncio.run(open_loop(live.port, lambda _: Request("clip", clip), **_rate(times, peak, bench)))
            rows += _overloaded(what, sent, peak)
            _wait_until_idle(live)
            rows.append(_beside(what, *asyncio.run(_with_metadata(live, clip, **_rate(times, peak, bench))), alone, peak))
    return rows


def _wait_until_idle(live: LiveServer) -> None:
    wait_until(lambda: live.metric("lrid_in_flight_requests") == 0)


def _rate(times: int, peak: float, bench: Bench) -> dict[str, float]:
    return {"per_second": times * peak, "seconds": bench.seconds}


async def _with_metadata(
    live: LiveServer, clip: bytes, *, per_second: float, seconds: float
) -> tuple[list[Sent], list[float]]:
    loading = asyncio.create_task(
        open_loop(live.port, lambda _: Request("clip", clip), per_second=per_second, seconds=seconds)
    )
    await asyncio.sleep(2)
    metadata = await metadata_seconds(live, seconds - 3)
    return await loading, metadata


def _goodput(sent: list[Sent]) -> float:
    """Answers a second, until the last of them."""
    return sum(one.status == 200 for one in sent) / max(one.due_seconds + one.seconds for one in sent)


def _overloaded(what: str, sent: list[Sent], peak: float) -> list[Row]:
    outcomes = Counter(one.status for one in sent)
    refused = [one.seconds for one in sent if one.status == 429]
    answers = f"answers by status {dict(sorted(outcomes.items()))}"
    return [
        Row(f"{what}: goodput", f"{_share(sent, peak)} of the peak of {peak:.1f}/s; {answers}",
            "≥ 90 %; 200 and 429 only", _goodput(sent) >= 0.9 * peak and set(outcomes) <= {200, 429}),
        Row(f"{what}: time of a refusal", f"{in_ms(refused)} ({len(refused)} of {len(sent)})", "p99 < 20 ms",
            bool(refused) and percentile(refused, 0.99) < REJECTED_SECONDS),
    ]  # fmt: skip


def _beside(what: str, sent: list[Sent], metadata: list[float], alone: list[float], peak: float) -> Row:
    """Names take their share of the cores from the songs, so that the goodput here is of another mix than the peak."""
    ratio = percentile(metadata, 0.99) / percentile(alone, 0.99)
    refused = in_ms([one.seconds for one in sent if one.status == 429])
    songs = f"songs meanwhile {_share(sent, peak)}, refusals {refused}"
    return Row(
        f"{what}: {len(metadata)} requests of metadata beside it",
        f"{in_ms(metadata)}; unloaded {in_ms(alone)}: p99 × {ratio:.1f}; {songs}",
        "p99 ≤ 5 × unloaded",
        ratio <= 5,
    )


def _share(sent: list[Sent], peak: float) -> str:
    return f"{_goodput(sent):.1f}/s = {100 * _goodput(sent) / peak:.0f} %"
