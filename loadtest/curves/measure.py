"""One point of each curve."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from loadtest.openloop import Connections, Request, audio_post, json_post, percentile
from loadtest.servers import memory, tree
from loadtest.sounds import TRACKS, encoded

CLIP_SHARE, BAD_SHARE = 0.02, 0.02  # of the mixed requests; the others are names
MIXED_CLIENTS = 8
REQUESTS_BETWEEN_SAMPLES = 500
REFUSALS = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Length:
    """A song of this length, asked for alone; medians."""

    seconds: float
    megabytes: float
    windows: int
    answer_ms: float
    cpu_ms: float  # of all processes, the mean


@dataclass(frozen=True, slots=True)
class AtOnce:
    """So many clients, each asking again as soon as it is answered."""

    clients: int
    answered_per_second: float
    p50_ms: float  # of what was answered
    p99_ms: float
    refused: int
    refused_p99_ms: float
    failed: int
    cpu_ms: float  # of all processes, for one answer


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the process tree, pages that are shared counted once."""

    requests: list[int]  # done before each sample
    pss_mb: list[float]  # 10^6 bytes
    slope_kb_per_1000_requests: float
    wrong: int  # answers with another status than expected


def cpu_seconds(process: psutil.Process) -> float:
    return sum(times.user + times.system for times in (member.cpu_times() for member in tree(process)))


def by_length(port: int, process: psutil.Process, seconds: float, repeats: int) -> Length:
    """MP3 of so many seconds. Raises RuntimeError at any status but 200."""
    song = encoded(seconds, 1, "MP3")
    request = audio_post(song)

    async def ask() -> tuple[list[float], int]:
        connections, times = Connections(port), []
        for _ in range(repeats):
            started = time.perf_counter()
            reply = await connections.exchange(request)
            times.append(time.perf_counter() - started)
            if reply.status != 200:
                raise RuntimeError(f"{seconds:g} s: expected 200, got {reply.status}: {reply.body[:200]!r}")
        await connections.close()
        return times, reply.json()["modalities"]["audio"]["windows"]

    asyncio.run(ask())
    before = cpu_seconds(process)
    times, windows = asyncio.run(ask())
    cpu_ms = 1e3 * (cpu_seconds(process) - before) / repeats
    return Length(seconds, len(song) / 1e6, windows, 1e3 * statistics.median(times), cpu_ms)


def at_once(port: int, process: psutil.Process, clips: Sequence[bytes], clients: int, seconds: float) -> AtOnce:
    """A closed loop: questions are asked for `seconds`, and what was asked is waited for."""
    requests = [audio_post(clip) for clip in clips]
    good: list[float] = []
    refused: list[float] = []
    failed = 0

    async def client(connections: Connections, number: int, stops_at: float) -> None:
        nonlocal failed
        while time.perf_counter() < stops_at:
            started = time.perf_counter()
            reply = await connections.exchange(requests[number % len(requests)])
            took_ms = 1e3 * (time.perf_counter() - started)
            number += clients
            if reply.status == 200:
                good.append(took_ms)
            elif reply.status in REFUSALS:
                refused.append(took_ms)
                await asyncio.sleep(min(reply.retry_after_seconds or 1.0, max(stops_at - time.perf_counter(), 0.0)))
            else:
                failed += 1

    async def load() -> float:
        connections, started = Connections(port), time.perf_counter()
        await asyncio.gather(*(client(connections, number, started + seconds) for number in range(clients)))
        await connections.close()
        return time.perf_counter() - started

    before = cpu_seconds(process)
    took = asyncio.run(load())
    return AtOnce(
        clients=clients,
        answered_per_second=len(good) / took,
        p50_ms=percentile(good, 0.5),
        p99_ms=percentile(good, 0.99),
        refused=len(refused),
        refused_p99_ms=percentile(refused, 0.99),
        failed=failed,
        cpu_ms=1e3 * (cpu_seconds(process) - before) / max(1, len(good)),
    )


def mixed(number: int, clips: Sequence[bytes]) -> tuple[Request, int]:
    """A request and the status it should get; the same mix in every hundred."""
    place = number % 100
    if place < 100 * CLIP_SHARE:
        return Request("clip", audio_post(clips[number % len(clips)])), 200
    if place < 100 * (CLIP_SHARE + BAD_SHARE):
        bad: list[tuple[Request, int]] = [
            (Request("not audio", audio_post(b"\x89PNG" + bytes(5000))), 415),
            (Request("nothing", json_post({})), 422),
        ]
        return bad[number % 2]
    artist, title = TRACKS[number % len(TRACKS)]
    return Request("names", json_post({"artist": f"{artist} {number}", "title": title})), 200


async def memory_over(port: int, process: psutil.Process, clips: Sequence[bytes], n_requests: int) -> Memory:
    """`n_requests` mixed requests from a few clients, the memory looked at between them."""
    connections, numbers = Connections(port), iter(range(n_requests))
    done, samples, wrong = [0], [memory(process).pss_mb], 0

    async def client(stop: int) -> None:
        nonlocal wrong
        for number in numbers:
            request, status = mixed(number, clips)
            wrong += (await connections.exchange(request.data)).status != status
            if number + MIXED_CLIENTS >= stop:
                return

    for stop in range(REQUESTS_BETWEEN_SAMPLES, n_requests + 1, REQUESTS_BETWEEN_SAMPLES):
        await asyncio.gather(*(client(stop) for _ in range(MIXED_CLIENTS)))
        done.append(stop)
        samples.append(memory(process).pss_mb)
    await connections.close()
    return Memory(done, samples, slope_kb_per_1000(done, samples), wrong)


def slope_kb_per_1000(requests: Sequence[int], pss_mb: Sequence[float]) -> float:
    """Least squares over all but the first fifth."""
    first = len(requests) // 5
    x, y = requests[first:], pss_mb[first:]
    if len(x) < 2:
        return float("nan")
    return 1e6 * statistics.linear_regression(x, y).slope
