"""Mixed load for half an hour: does anything grow? Memory, file descriptors, threads, temporary files.

    python -m loadtest.soak --minutes 30
    python -m loadtest.soak --minutes 5 --json soak.json

Songs, clips, names, rejected requests, clients that disconnect, hostile files; and every two minutes a decoder is killed and
the release is loaded anew, first under load and then, while the clients pause, at rest. The process tree is sampled every
10 s, and after each swap at rest: under load memory holds the work in progress, at rest only what stays. The first
fifth of the samples, in which caches fill, does not count. Exit code 1 if an answer was wrong or a server error came.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil

from app.lab.markdown import table
from app.settings import Settings
from loadtest.client import Connections, audio_post, json_post, percentile
from loadtest.mix import Drawn, Mix
from loadtest.servers import SERVE, Server, save, server

SAMPLE_SECONDS = 10.0
FAULT_SECONDS = 120.0
REST_SECONDS = 3.0
STEADY_SECONDS, STEADY_MB = 5.0, 5.0  # memory is at rest when it has changed by less for so long
SETTLING_SECONDS = 30.0  # after a swap; then the sample counts as it is
CLIENTS = 6
KEY = "soak-admin-key"


@dataclass(frozen=True, slots=True)
class Sample:
    """The process tree at one moment."""

    seconds: float
    server_rss_mb: float  # of the server process itself
    tree_pss_mb: float  # of all, shared pages counted once
    file_descriptors: int
    threads: int
    processes: int
    temporary_files: int


@dataclass
class Soak:
    """Collects what happened."""

    samples: list[Sample] = field(default_factory=list)
    at_rest: list[Sample] = field(default_factory=list)
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    seconds_by_kind: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    go: asyncio.Event = field(default_factory=asyncio.Event)  # cleared while the clients rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, help="where to save every sample")
    parser.add_argument("--pause-ms", type=float, default=50.0, help="of a client between two requests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lrid-soak-") as folder:
        arguments = (*SERVE[:-1], "error")
        with server(arguments, LRID_ADMIN_KEYS=KEY, TMPDIR=folder) as running:
            soak = asyncio.run(_run(running, Path(folder), options.minutes * 60, options.pause_ms / 1000))
    looks = {"samples": soak.samples, "at_rest": soak.at_rest}
    save(options.json, {name: [asdict(sample) for sample in samples] for name, samples in looks.items()})
    print(report(soak))
    raise SystemExit(1 if soak.wrong else 0)


async def _run(running: Server, temporary: Path, seconds: float, pause_seconds: float) -> Soak:
    soak, mix = Soak(), Mix()
    began = time.monotonic()
    ends_at = began + seconds

    def look() -> Sample:
        return _sample(running, temporary, began)

    soak.go.set()
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(_client(running.port, mix, random.Random(number), soak, ends_at, pause_seconds))
        group.create_task(_disconnect(running.port, mix, soak, ends_at))
        group.create_task(_faults(running, soak, look, ends_at))
        group.create_task(_sampler(soak, look, ends_at))
    return soak


async def _client(port: int, mix: Mix, rng: random.Random, soak: Soak, ends_at: float, pause_seconds: float) -> None:
    known: dict[Drawn, str] = {}  # its first answer
    async with Connections(port) as connections:
        while time.monotonic() < ends_at:
            await soak.go.wait()
            drawn = mix.draw(rng)
            kind, expected = drawn.kind, drawn.expected
            reply, seconds = await connections.timed(drawn.request)
            soak.seconds_by_kind[kind].append(seconds)
            outcome = reply.outcome
            soak.outcomes[f"{kind}: {outcome}"] += 1
            if outcome == "queue_full":
                await asyncio.sleep(reply.retry_after_seconds or 1)
            elif outcome not in (expected, "decoder_crashed"):  # a decoder that we killed ourselves
                soak.wrong.append(f"{kind}: expected {expected}, got {outcome}")
            elif outcome == "200":
                answer = json.dumps(reply.json() | {"timing_ms": None})
                if known.setdefault(drawn, answer) != answer:
                    soak.wrong.append(f"{kind}: the same request got another answer")
            await asyncio.sleep(pause_seconds)


async def _disconnect(port: int, mix: Mix, soak: Soak, ends_at: float) -> None:
    """Disconnect during uploads, decoding and waiting."""
    rng = random.Random(99)
    while time.monotonic() < ends_at:
        await soak.go.wait()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        request = audio_post(rng.choice(mix.songs))
        writer.write(request[: rng.randrange(len(request))] if rng.random() < 0.5 else request)
        await asyncio.sleep(rng.random() * 0.3)
        writer.transport.abort()
        await asyncio.sleep(2)


async def _faults(running: Server, soak: Soak, look: Callable[[], Sample], ends_at: float) -> None:
    swap = json_post({"model": Settings().model}, f"Authorization: Bearer {KEY}", path="/admin/releases")
    async with Connections(running.port) as connections:
        while time.monotonic() + FAULT_SECONDS < ends_at:
            await asyncio.sleep(FAULT_SECONDS)
            running.decoders[0].kill()
            await _swapped(connections, swap, soak)
            soak.go.clear()
            await asyncio.sleep(REST_SECONDS)
            await _swapped(connections, swap, soak)
            await _steady(running)
            soak.at_rest.append(look())
            soak.go.set()


async def _steady(running: Server) -> None:
    """Wait until memory has stayed the same for a while: a replaced release is freed some seconds after the swap."""
    gives_up_at = time.monotonic() + SETTLING_SECONDS
    last_mb, since = running.rss_mb, time.monotonic()
    while time.monotonic() < min(since + STEADY_SECONDS, gives_up_at):
        await asyncio.sleep(0.5)
        if abs(running.rss_mb - last_mb) > STEADY_MB:
            last_mb, since = running.rss_mb, time.monotonic()


async def _swapped(connections: Connections, swap: bytes, soak: Soak) -> None:
    reply = await connections.exchange(swap)
    soak.outcomes[f"swap: {reply.status}"] += 1
    if reply.status != 200:
        soak.wrong.append(f"swap: expected 200, got {reply.status}")


async def _sampler(soak: Soak, look: Callable[[], Sample], ends_at: float) -> None:
    while time.monotonic() < ends_at:
        await asyncio.sleep(SAMPLE_SECONDS)
        with contextlib.suppress(psutil.NoSuchProcess):  # a child ended meanwhile
            soak.samples.append(look())


def _sample(running: Server, temporary: Path, began: float) -> Sample:
    members = running.tree
    return Sample(
        seconds=round(time.monotonic() - began, 1),
        server_rss_mb=running.rss_mb,
        tree_pss_mb=running.tree_pss_mb,
        file_descriptors=sum(member.num_fds() for member in members),
        threads=sum(member.num_threads() for member in members),
        processes=len(members),
        temporary_files=sum(1 for _ in temporary.rglob("*")),
    )


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """Median slope over all pairs of (seconds, value), which peaks do not sway; nan for fewer than two."""
    if len(points) < 2:
        return float("nan")
    seconds, values = np.array(points).T
    i, j = np.triu_indices(len(points), 1)
    return float(np.median((values[j] - values[i]) / (seconds[j] - seconds[i])) * 3600)


def report(soak: Soak) -> str:
    """Markdown."""
    lines: list[str] = []
    for title, samples in (("under load", soak.samples), ("at rest, after a swap", soak.at_rest)):
        settled = samples[len(samples) // 5 :]
        quarter = max(len(settled) // 4, 1)
        rows = []
        for name in Sample.__slots__[1:] if settled else ():
            points = [(sample.seconds, float(getattr(sample, name))) for sample in settled]
            values = [value for _, value in points]
            early, late = np.median(values[:quarter]), np.median(values[-quarter:])
            slope = f"{slope_per_hour(points):+.1f}"
            rows.append([name, f"{early:,.0f}", f"{late:,.0f}", f"{max(values):,.0f}", slope])
        what = f"{title} ({len(settled)} samples)"
        lines += [table([what, "first quarter, median", "last quarter, median", "most", "slope an hour"], rows), ""]
    delays = [
        [kind, f"{percentile(seconds, 0.5):.3f} s", f"{percentile(seconds, 0.99):.3f} s", str(len(seconds))]
        for kind, seconds in sorted(soak.seconds_by_kind.items())
    ]
    lines.append(table(["sent", "p50", "p99", "requests"], delays))
    outcomes = ", ".join(f"{name} {n}" for name, n in sorted(soak.outcomes.items()))
    lines += ["", f"Outcomes: {outcomes}.", f"Wrong: {len(soak.wrong)}.", *(f"- {wrong}" for wrong in soak.wrong[:20])]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
