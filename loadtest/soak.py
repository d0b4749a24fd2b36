"""Half an hour of mixed load, and whether anything grows: memory, file descriptors, threads, temporary files.

    python -m loadtest.soak --minutes 30
    python -m loadtest.soak --minutes 2 --json soak.json

Songs, clips, bare metadata, refusals, clients that leave, hostile files; and every two minutes a killed decoder and the
same release loaded anew, first under load and then, when the clients have paused, at rest. The process tree is looked at
every 10 s, and after each swap at rest: between them memory holds what is being worked on, at rest only what is kept. What
is reported are medians and slopes an hour of all but the first fifth, in which caches fill. Exit code 1 if an answer was
wrong or a server error came.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from app.settings import Settings
from loadtest.openloop import Connections, audio_post, json_post, percentile
from loadtest.servers import server, tree
from loadtest.sounds import TRACKS, encoded
from tests import audio_samples

SAMPLE_SECONDS = 10.0
FAULT_SECONDS = 120.0
REST_SECONDS = 3.0
STEADY_SECONDS, STEADY_MB = 5.0, 5.0  # memory is at rest when it has changed by less for so long
SETTLING_SECONDS = 30.0  # after a swap; then the look counts as it is
CLIENTS = 6
HOSTILE = ("random bytes", "truncated mp3", "damaged flac", "wav promising hours", "40 streams", "nan wav", "png named wav")


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
    """What happened."""

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
    soak = measure(options.minutes * 60, options.pause_ms / 1000)
    if options.json:
        looks = {"samples": soak.samples, "at_rest": soak.at_rest}
        saved = {name: [asdict(sample) for sample in samples] for name, samples in looks.items()}
        options.json.write_text(json.dumps(saved, indent=1) + "\n")
    print(report(soak))
    raise SystemExit(1 if soak.wrong else 0)


def measure(seconds: float, pause_seconds: float) -> Soak:
    key = "soak-admin-key"
    with tempfile.TemporaryDirectory(prefix="lrid-soak-") as folder:
        environ = {"LRID_ADMIN_KEYS": key, "TMPDIR": folder}
        arguments = ("-m", "app.cli", "serve", "--log-level", "error")
        with server(arguments, "/health/ready", **environ) as (port, process):
            return asyncio.run(_run(port, process, Path(folder), seconds, pause_seconds))


async def _run(port: int, process: psutil.Process, temporary: Path, seconds: float, pause_seconds: float) -> Soak:
    soak, began = Soak(), time.monotonic()
    ends_at, look = began + seconds, partial(_sample, process, temporary, began)
    soak.go.set()
    mix = Mix()
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(_client(port, mix, random.Random(number), soak, ends_at, pause_seconds))
        group.create_task(_leaver(port, mix, soak, ends_at))
        group.create_task(_misfortune(port, process, soak, look, ends_at))
        group.create_task(_sampler(soak, look, ends_at))
    return soak


class Mix:
    """What a catalogue sends, and what strangers send."""

    def __init__(self) -> None:
        self.songs = [encoded(seconds, seed, "MP3") for seed, seconds in enumerate((150, 95))]
        self.clips = [encoded(20, 7, kind) for kind in ("MP3", "OGG", "FLAC")]
        self.hostile = [audio_samples.HOSTILE[name] for name in HOSTILE]
        self._hostile_files = [(make(), code) for make, code in self.hostile]

    def draw(self, rng: random.Random) -> tuple[str, bytes, str]:
        """(kind, request, expected: `200` or the code of a refusal)."""
        artist, title = rng.choice(TRACKS)
        kind = rng.choices(("metadata", "clip", "song", "refused", "hostile"), (60, 14, 4, 12, 10))[0]
        if kind == "metadata":
            return kind, json_post({"artist": artist, "title": title}), "200"
        if kind == "clip":
            return kind, audio_post(rng.choice(self.clips)), "200"
        if kind == "song":
            return kind, audio_post(rng.choice(self.songs), {"artist": artist, "title": title}), "200"
        if kind == "refused":
            return kind, json_post({"title": "12345"}), "nothing_usable"
        data, code = rng.choice(self._hostile_files)
        return kind, audio_post(data), code


async def _client(port: int, mix: Mix, rng: random.Random, soak: Soak, ends_at: float, pause_seconds: float) -> None:
    connections = Connections(port)
    known: dict[bytes, str] = {}  # request → its first answer
    while time.monotonic() < ends_at:
        await soak.go.wait()
        kind, request, expected = mix.draw(rng)
        started = time.monotonic()
        reply = await connections.exchange(request)
        soak.seconds_by_kind[kind].append(time.monotonic() - started)
        body = reply.json() if reply.body else {}
        outcome = "200" if reply.status == 200 else str(body.get("code", reply.status))
        soak.outcomes[f"{kind}: {outcome}"] += 1
        if outcome == "queue_full":
            await asyncio.sleep(reply.retry_after_seconds or 1)
        elif outcome == "decoder_crashed":
            pass  # the decoder that we killed ourselves was at work on it
        elif outcome != expected:
            soak.wrong.append(f"{kind}: expected {expected}, got {outcome}")
        elif outcome == "200":
            del body["timing_ms"]
            if known.setdefault(request, json.dumps(body)) != json.dumps(body):
                soak.wrong.append(f"{kind}: the same request got another answer")
        await asyncio.sleep(pause_seconds)
    await connections.close()


async def _leaver(port: int, mix: Mix, soak: Soak, ends_at: float) -> None:
    """Hangs up in the middle of uploads, decoding and waiting."""
    rng = random.Random(99)
    while time.monotonic() < ends_at:
        await soak.go.wait()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        request = audio_post(rng.choice(mix.songs))
        writer.write(request[: rng.randrange(len(request))] if rng.random() < 0.5 else request)
        await asyncio.sleep(rng.random() * 0.3)
        writer.transport.abort()
        await asyncio.sleep(2)


async def _misfortune(port: int, process: psutil.Process, soak: Soak, look: Callable[[], Sample], ends_at: float) -> None:
    connections = Connections(port)
    body = json.dumps({"model": Settings().model})
    swap = (
        f"POST /admin/releases HTTP/1.1\r\nHost: soak\r\nAuthorization: Bearer soak-admin-key\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    while time.monotonic() + FAULT_SECONDS < ends_at:
        await asyncio.sleep(FAULT_SECONDS)
        decoders = [child for child in process.children() if "app.audio.worker" in " ".join(child.cmdline())]
        os.kill(decoders[0].pid, signal.SIGKILL)
        await _swapped(connections, swap, soak)
        soak.go.clear()
        await asyncio.sleep(REST_SECONDS)
        await _swapped(connections, swap, soak)
        await _steady(process)
        soak.at_rest.append(look())
        soak.go.set()
    await connections.close()


async def _steady(process: psutil.Process) -> None:
    """Until memory has stayed the same for a while: what the replaced release had goes back some seconds after the swap."""
    gives_up_at = time.monotonic() + SETTLING_SECONDS
    last_mb, since = process.memory_info().rss / 1e6, time.monotonic()
    while time.monotonic() < min(since + STEADY_SECONDS, gives_up_at):
        await asyncio.sleep(0.5)
        now_mb = process.memory_info().rss / 1e6
        if abs(now_mb - last_mb) > STEADY_MB:
            last_mb, since = now_mb, time.monotonic()


async def _swapped(connections: Connections, swap: bytes, soak: Soak) -> None:
    reply = await connections.exchange(swap)
    soak.outcomes[f"swap: {reply.status}"] += 1
    if reply.status != 200:
        soak.wrong.append(f"swap: expected 200, got {reply.status}")


async def _sampler(soak: Soak, look: Callable[[], Sample], ends_at: float) -> None:
    while time.monotonic() < ends_at:
        await asyncio.sleep(SAMPLE_SECONDS)
        with contextlib.suppress(psutil.NoSuchProcess):  # a child ended while it was looked at
            soak.samples.append(look())


def _sample(process: psutil.Process, temporary: Path, began: float) -> Sample:
    members = tree(process)
    return Sample(
        seconds=round(time.monotonic() - began, 1),
        server_rss_mb=process.memory_info().rss / 1e6,
        tree_pss_mb=sum(member.memory_full_info().pss for member in members) / 1e6,
        file_descriptors=sum(member.num_fds() for member in members),
        threads=sum(member.num_threads() for member in members),
        processes=len(members),
        temporary_files=sum(1 for _ in temporary.rglob("*")),
    )


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """Of (seconds, value): the median of the slopes of all pairs, which peaks do not sway; nan for fewer than two."""
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
        head = f"| {title} ({len(settled)} looks) | first quarter, median | last quarter, median | most | slope an hour |"
        lines += [head, "|---|---|---|---|---|"]
        for name in Sample.__slots__[1:] if settled else ():
            points = [(sample.seconds, float(getattr(sample, name))) for sample in settled]
            values = [value for _, value in points]
            early, late = np.median(values[:quarter]), np.median(values[-quarter:])
            lines.append(f"| {name} | {early:,.0f} | {late:,.0f} | {max(values):,.0f} | {slope_per_hour(points):+.1f} |")
        lines.append("")
    lines += ["| sent | p50 | p99 | requests |", "|---|---|---|---|"]
    for kind, seconds in sorted(soak.seconds_by_kind.items()):
        lines.append(f"| {kind} | {percentile(seconds, 0.5):.3f} s | {percentile(seconds, 0.99):.3f} s | {len(seconds)} |")
    outcomes = ", ".join(f"{name} {n}" for name, n in sorted(soak.outcomes.items()))
    lines += ["", f"Outcomes: {outcomes}.", f"Wrong: {len(soak.wrong)}.", *(f"- {wrong}" for wrong in soak.wrong[:20])]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
