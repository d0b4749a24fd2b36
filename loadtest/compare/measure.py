"""What is measured of a contender: its peak in a closed loop, then loads that arrive whatever it does."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from loadtest.openloop import Connections, Request, Sent, open_loop, percentile
from loadtest.servers import tree

REFUSALS = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Load:
    """One open-loop load. Delays count from the moment a request was due."""

    offered_per_second: float
    answered: int  # with status 200
    refused: int  # 429 or 503
    failed: int  # any other status, or no answer
    goodput_per_second: float  # answered, over the time until the last of them
    p50_ms: float  # of those answered; nan if none
    p95_ms: float
    p99_ms: float
    refused_p99_ms: float


def summary(sent: Sequence[Sent], offered_per_second: float, seconds: float) -> Load:
    """Of one load that was due over `seconds`."""
    good = [one for one in sent if one.status == 200]
    refused = [one for one in sent if one.status in REFUSALS]
    took = max([seconds, *(one.due_seconds + one.seconds for one in good)])
    delays_ms = [1e3 * one.seconds for one in good]
    return Load(
        offered_per_second=offered_per_second,
        answered=len(good),
        refused=len(refused),
        failed=len(sent) - len(good) - len(refused),
        goodput_per_second=len(good) / took,
        p50_ms=percentile(delays_ms, 0.50),
        p95_ms=percentile(delays_ms, 0.95),
        p99_ms=percentile(delays_ms, 0.99),
        refused_p99_ms=percentile([1e3 * one.seconds for one in refused], 0.99),
    )


def offer(port: int, requests: Sequence[bytes], per_second: float, seconds: float, patience_seconds: float) -> Load:
    """An open loop over the requests in turn."""
    made = [Request("clip", data) for data in requests]
    load = open_loop(
        port,
        lambda number: made[number % len(made)],
        per_second=per_second,
        seconds=seconds,
        patience_seconds=patience_seconds,
    )
    return summary(asyncio.run(load), per_second, seconds)


@dataclass(frozen=True, slots=True)
class Peak:
    """What a server does when it always has work."""

    per_second: float
    cpu_ms: float  # of all its processes together, for one answer; other work on the machine disturbs it less


def peak(port: int, process: psutil.Process, requests: Sequence[bytes], at_once: int, seconds: float) -> Peak:
    """So many clients that ask again as soon as they are answered."""
    before = _cpu_seconds(process)
    ends = asyncio.run(_ends(port, requests, at_once, seconds))
    if len(ends) < 2:
        return Peak(0.0, math.nan)
    used = _cpu_seconds(process) - before
    return Peak((len(ends) - 1) / (max(ends) - min(ends)), 1e3 * used / len(ends))


def _cpu_seconds(process: psutil.Process) -> float:
    return sum(times.user + times.system for times in (member.cpu_times() for member in tree(process)))


def peak_per_second(port: int, requests: Sequence[bytes], at_once: int, seconds: float) -> float:
    """The rate alone, counted from the first answer to the last."""
    ends = asyncio.run(_ends(port, requests, at_once, seconds))
    return (len(ends) - 1) / (max(ends) - min(ends)) if len(ends) > 1 else 0.0


async def _ends(port: int, requests: Sequence[bytes], at_once: int, seconds: float) -> list[float]:
    """When each good answer came."""
    connections, ends = Connections(port), []
    stops_at = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < stops_at:
            reply = await connections.exchange(requests[number % len(requests)])
            if reply.status == 200:
                ends.append(time.perf_counter())
            else:
                await asyncio.sleep(0.1)
            number += at_once

    await asyncio.gather(*(client(number) for number in range(at_once)))
    await connections.close()
    return ends


def median(values: Sequence[float]) -> float:
    """Of the numbers among them; nan if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan
