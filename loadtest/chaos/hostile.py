"""Clients who leave, dawdle or send bombs, and what the others feel of them."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter

import psutil

from loadtest.chaos.rows import Bench, Row, connections_to, in_ms, metadata_seconds, timed
from loadtest.openloop import audio_post, percentile
from loadtest.servers import REPOSITORY
from tests import audio_samples
from tests.service.faulty import clip
from tests.service.hard import children
from tests.service.live import LiveServer, wait_until

IDLE, HEADS, BODIES, ODD = 10_000, 200, 200, 20
LEAVERS = 30  # of each kind


def leavers(bench: Bench) -> list[Row]:
    """While the device is held, others hang up: in their upload, in decoding, in the queue."""
    rng = random.Random(0)

    async def leave(live: LiveServer, peak: float, audio: bytes, share: float, stays_seconds: float) -> None:
        data = audio_post(audio)
        assert peak
        _, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(data[: int(len(data) * share)])
        await asyncio.sleep(stays_seconds)
        writer.transport.abort()

    async def run(live: LiveServer) -> None:
        quick, slow = clip(0.61), audio_samples.flac(0.63 / 0.5 * audio_samples.song(60.0))
        kinds = [(quick, rng.uniform(0.1, 0.9), 0.2), (slow, 1.0, 0.02), (quick, 1.0, 1.5)]
        for audio, share, stays_seconds in kinds:
            await asyncio.gather(*(leave(live, 0.61, audio, share, stays_seconds) for _ in range(LEAVERS)))

    with bench.server() as (live, device):
        asyncio.run(metadata_seconds(live, 1))
        device.hold()
        occupying = subprocess.Popen([sys.executable, "-c", _ASK, str(live.port)], cwd=REPOSITORY)
        wait_until(lambda: device.passes and device.passes[-1] == [0.1])
        before = len(device.passes)
        asyncio.run(run(live))
        wait_until(lambda: live.metric("lrid_in_flight_requests") <= 1)
        device.release()
        occupying.wait()
        asyncio.run(metadata_seconds(live, 0.5))
        heard = sum(len(each) for each in device.passes[before:])
        gone = live.metric("lrid_requests_total", outcome="client_gone")
        dropped = live.metric("lrid_dropped_windows_total")
    return [
        Row(
            f"{3 * LEAVERS} clients leave, in upload, decoding and queue: none reaches the device, all are counted",
            f"{heard} windows heard, {gone:.0f} counted as client_gone, {dropped:.0f} windows dropped from the queue",
            f"0 heard, {3 * LEAVERS} counted",
            heard == 0 and gone == 3 * LEAVERS,
        )
    ]


_ASK = """
import sys
from loadtest.openloop import audio_post
from tests.service.faulty import clip
from tests.service.hard import ask_all
ask_all(int(sys.argv[1]), [audio_post(clip(0.1))])
"""


def connections(bench: Bench) -> list[Row]:
    what = f"{IDLE:,} idle connections, {HEADS} slow headers and {BODIES} uploads of 1 byte/s, renewed when closed"
    return [_attacked(bench, what, (IDLE, HEADS, BODIES, 0))]


def odd(bench: Bench) -> list[Row]:
    what = f"{ODD} × headers of 80 kB, {ODD} × 5 pipelined requests unread, {ODD // 4} half-closed uploads, anew each second"
    return [_attacked(bench, what, (0, 0, 0, ODD))]


def _attacked(bench: Bench, what: str, numbers: tuple[int, int, int, int]) -> Row:
    """The attack comes from a process of its own, so that it is the server's trouble alone."""
    with bench.server() as (live, _):
        process = psutil.Process(live.process.pid)
        asyncio.run(metadata_seconds(live, 2))
        alone = asyncio.run(metadata_seconds(live, 10))
        before_mb, before_fds = process.memory_info().rss / 1e6, process.num_fds()
        command = [sys.executable, "-m", "loadtest.chaos.attacker", str(live.port), *map(str, numbers)]
        attacker = subprocess.Popen(command, cwd=REPOSITORY)
        wait_until(lambda: process.num_fds() - before_fds >= 0.95 * sum(numbers[:3]) + numbers[3], seconds=60)
        open_at_once = process.num_fds() - before_fds
        during = asyncio.run(metadata_seconds(live, 10))
        held_mb = process.memory_info().rss / 1e6 - before_mb
        attacker.terminate()
        attacker.wait()
        began = time.monotonic()
        wait_until(lambda: process.num_fds() <= before_fds + 5, seconds=90)
        freed = time.monotonic() - began
    ratio = percentile(during, 0.99) / percentile(alone, 0.99)
    return Row(
        what,
        f"{open_at_once:,} open; others' metadata {in_ms(during)}, before {in_ms(alone)}: p99 × {ratio:.1f}; "
        f"{held_mb:.0f} MB, all closed {freed:.1f} s after",
        "others' p99 ≤ 2 ×",
        ratio <= 2,
    )


def bombs(bench: Bench) -> list[Row]:
    """The files of tests/service/test_hard_audio.py and tests/audio_samples.py, at the limits of the default settings."""
    from tests.service.test_hard_audio import BOMBS

    files = {name: make() for name, (make, _) in BOMBS.items()}
    files |= {name: make() for name, (make, _) in audio_samples.HOSTILE.items()}
    slowest, peak_mb = ("", 0.0), 0.0
    outcomes: Counter[str] = Counter()

    async def throw(live: LiveServer) -> None:
        nonlocal slowest, peak_mb
        async with connections_to(live) as connections:
            for name, data in files.items():
                reply, took = await timed(connections, audio_post(data))
                slowest = max(slowest, (name, took), key=lambda pair: pair[1])
                outcomes[str(reply.status)] += 1
                decoders = children(live, "app.audio.worker")
                peak_mb = max(peak_mb, *(process.memory_info().rss / 1e6 for process in decoders))

    async def both(live: LiveServer) -> list[float]:
        throwing = asyncio.create_task(throw(live))
        found: list[float] = []
        while not throwing.done():
            found += await metadata_seconds(live, 0.5)
        await throwing
        return found

    with bench.server() as (live, _):
        process = psutil.Process(live.process.pid)
        asyncio.run(metadata_seconds(live, 2))
        alone = asyncio.run(metadata_seconds(live, 5))
        before_mb = process.memory_info().rss / 1e6
        during = asyncio.run(both(live))
        grown_mb = process.memory_info().rss / 1e6 - before_mb
    odd = {status: n for status, n in outcomes.items() if status not in ("200", "413", "415", "422")}
    ratio = percentile(during, 0.99) / percentile(alone, 0.99)
    return [
        Row(
            f"{len(files)} bombs and malformed files, one after the other",
            f"answers by status {dict(sorted(outcomes.items()))}; slowest {slowest[1]:.1f} s ({slowest[0]}); "
            f"a decoder had at most {peak_mb:.0f} MB, the server grew by {grown_mb:.0f} MB; others' p99 × {ratio:.1f}",
            "200, 413, 415 or 422; ≤ 20 s",
            not odd and slowest[1] <= 20.5,
        )
    ]
