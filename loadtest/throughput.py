"""How fast, how big and how quiet: the service beside a plain handler, in one run.

    python -m loadtest.throughput                    # about 4 min on 2 cores
    python -m loadtest.throughput --clips 8 --rounds 1 --idle-seconds 5
    python -m loadtest.throughput --json result.json

With the paper's network, `lrid_net/1`: the plain handler can do each of its steps with stock parts. Both servers run at the
same time as processes of their own on loopback, idle while the other is asked. Rounds go back and forth between them, so
that both meet the same machine; what is compared are medians. Needs the extra `loadtest` or `test` (psutil). It measures:

- metadata only: requests a second, against the same request done by pushing a zero spectrogram through the trunk;
- 30 s MP3 clips, 32 at once: clips a second, against a handler that decodes, transforms and runs the network in eager
  fp32 for each request (loadtest/plain.py);
- CPU of the idle service, and its memory after the load, decoding processes included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from loadtest.client import Answer, Round, audio_request, json_request, run_round
from loadtest.servers import OURS, PLAIN, Memory, cpu_percent, memory, server
from loadtest.sounds import TRACKS, encoded

CLIP_SECONDS = 30.0
DISTINCT_CLIPS = 4
MODEL = "lrid_net/1"
TEXT_REQUESTS, TEXT_REQUESTS_PLAIN, TEXT_CONNECTIONS = 2000, 8, 8
ROUND_TIMEOUT_SECONDS = 300.0
RATIO_TEXT, RATIO_CLIPS, IDLE_CPU_PERCENT, MEMORY_MB = 20.0, 1.8, 1.0, 2500.0  # what is asked of the service


@dataclass(frozen=True, slots=True)
class Pair:
    """The same work done by both servers; medians over the rounds."""

    ours_per_second: list[float]
    plain_per_second: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours_per_second) / statistics.median(self.plain_per_second)


@dataclass(frozen=True, slots=True)
class Result:
    text: Pair
    clips: Pair
    clips_at_once: int
    largest_difference: float  # of any probability, between the two servers' answers about the same clip
    idle_cpu_percent: float
    memory: Memory
    machine: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32, help="clips sent at once")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind, for each server")
    parser.add_argument("--idle-seconds", type=float, default=20.0, help="over which idle CPU is measured")
    parser.add_argument("--json", type=Path, help="where to save everything that was measured")
    options = parser.parse_args()
    result = measure(options.clips, options.rounds, options.idle_seconds)
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(table(result))


def measure(clips_at_once: int, rounds: int, idle_seconds: float) -> Result:
    clips = [encoded(CLIP_SECONDS, seed, "MP3") for seed in range(DISTINCT_CLIPS)]
    both = {"LRID_DEVICE": "cpu", "LRID_MODEL": MODEL}
    with server(OURS, "/health/ready", **both) as (ours, process):
        with server(PLAIN, "/openapi.json", **both) as (plain, _):
            text = _text_rounds(ours, plain, rounds)
            sent = [clips[i % len(clips)] for i in range(clips_at_once)]
            pair, difference = _clip_rounds(ours, plain, sent, rounds)
        used = memory(process)
        time.sleep(3)
        idle = cpu_percent(process, idle_seconds)
    return Result(text, pair, clips_at_once, difference, idle, used, _machine())


def _text_rounds(ours: int, plain: int, rounds: int) -> Pair:
    def requests(path: str, n: int) -> list[bytes]:
        tracks = [TRACKS[i % len(TRACKS)] for i in range(n)]
        return [json_request(path, {"artist": artist, "title": title}) for artist, title in tracks]

    _round(ours, requests("/identify", 50), TEXT_CONNECTIONS)  # warm up
    _round(plain, requests("/text", 1), TEXT_CONNECTIONS)
    pair = Pair([], [])
    for _ in range(rounds):
        pair.ours_per_second.append(_round(ours, requests("/identify", TEXT_REQUESTS), TEXT_CONNECTIONS).per_second)
        pair.plain_per_second.append(_round(plain, requests("/text", TEXT_REQUESTS_PLAIN), TEXT_CONNECTIONS).per_second)
    return pair


def _clip_rounds(ours: int, plain: int, clips: Sequence[bytes], rounds: int) -> tuple[Pair, float]:
    to_ours = [audio_request("/identify", clip) for clip in clips]
    to_plain = [audio_request("/audio", clip) for clip in clips]
    _round(ours, to_ours[:2], 2)  # warm up
    _round(plain, to_plain[:2], 2)
    pair, difference = Pair([], []), 0.0
    for _ in range(rounds):
        mine, theirs = _round(ours, to_ours, len(clips)), _round(plain, to_plain, len(clips))
        pair.ours_per_second.append(mine.per_second)
        pair.plain_per_second.append(theirs.per_second)
        difference = max(difference, *map(_difference, mine.answers, theirs.answers))
    return pair, difference


def _round(port: int, requests: Sequence[bytes], connections: int) -> Round:
    return run_round(port, requests, connections, ROUND_TIMEOUT_SECONDS)


def _difference(mine: Answer, theirs: Answer) -> float:
    """Largest |Δp|: both run the same network, so this is precision, resampling, and silence skipped or not."""
    probabilities = {entry["code"]: entry["probability"] for entry in mine.json()["languages"]}
    return max(abs(probabilities[code] - p) for code, p in theirs.json().items())


def _machine() -> dict[str, Any]:
    model = ""
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        model = next((x.split(":")[1].strip() for x in cpuinfo.read_text().splitlines() if x.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "load_average_at_end": round(os.getloadavg()[0], 1),
    }


def table(result: Result) -> str:
    """Markdown."""
    m, machine = statistics.median, result.machine
    text, clips = result.text, result.clips
    rows = [
        ("metadata only, requests/s", m(text.ours_per_second), m(text.plain_per_second), text.ratio, RATIO_TEXT),
        (f"{result.clips_at_once} clips of 30 s at once, clips/s", m(clips.ours_per_second), m(clips.plain_per_second),
         clips.ratio, RATIO_CLIPS),
    ]  # fmt: skip
    lines = ["| work | this service | plain handler | ratio | asked |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {a:.2f} | {b:.2f} | {ratio:.1f} × | ≥ {asked:g} × |" for name, a, b, ratio, asked in rows]
    used = result.memory
    lines += [
        "",
        "| of the whole process tree | measured | asked |",
        "|---|---|---|",
        f"| CPU when idle, of one core | {result.idle_cpu_percent:.2f} % | < {IDLE_CPU_PERCENT:g} % |",
        f"| memory after the load (PSS) | {used.pss_mb:,.0f} MB | < {MEMORY_MB:,.0f} MB |",
        f"| sum of the processes' peaks (RSS) | {used.peak_rss_mb:,.0f} MB | |",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; Python {machine['python']}; "
        f"load average at the end {machine['load_average_at_end']}. "
        f"Largest difference of a probability between the two servers: {result.largest_difference:.4f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
