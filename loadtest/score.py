"""How fast `lrid score` is: names by themselves, and clips beside a server under load.

    python -m loadtest.score                    # about 2 min
    python -m loadtest.score --json result.json

Each rate is that of the rows by which a long table or folder exceeds a short one, so that starting counts for nothing. CPU
time is that of all processes; it barely depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.settings import Settings
from loadtest.client import audio_post, closed_loop
from loadtest.servers import REPOSITORY, Server, machine, server
from loadtest.sounds import TRACKS, encoded

LEAST_NAMES_PER_SECOND, LEAST_SHARE_OF_SERVER = 10_000.0, 0.95  # required, on two cores
CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Rate:
    """Of rows or answers."""

    per_second: float
    cpu_ms: float  # of one


@dataclass(frozen=True, slots=True)
class Result:
    names: Rate
    clips: Rate
    server_clips: Rate
    machine: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--names", type=int, default=100_000, help="rows of the long table (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=200, help="files of the long folder (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ |= {"LRID_MODEL": options.model, "LRID_DEVICE": "cpu"}
    with tempfile.TemporaryDirectory(prefix="lrid-score-") as folder, server() as running:
        result = measure(Path(folder), running, options)
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(table(result))


def measure(folder: Path, running: Server, options: argparse.Namespace) -> Result:
    """Medians of rounds, in which command and server take turns."""
    clips = [encoded(30.0, seed, "MP3") for seed in range(4)]
    requests = [audio_post(clip) for clip in clips]
    asyncio.run(closed_loop(running.port, requests, at_once=CLIENTS, seconds=2))  # warm up
    found: list[tuple[Rate, Rate, Rate]] = []
    for _ in range(options.rounds):
        names = _beyond_start(folder, write_names, options.names)
        files = _beyond_start(folder, lambda path, n: write_clips(path, n, clips), options.clips)
        found.append((names, files, _of_server(running, requests, options.clips / max(files.per_second, 1.0))))
    names, files, asked = map(_median, zip(*found, strict=True))
    return Result(names, files, asked, machine())


def _median(rates: Sequence[Rate]) -> Rate:
    return Rate(statistics.median(r.per_second for r in rates), statistics.median(r.cpu_ms for r in rates))


def write_names(place: Path, n: int) -> Path:
    path = place.with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["artist", "title"])
        writer.writerows((artist, f"{title} {i}") for i in range(n) for artist, title in [TRACKS[i % len(TRACKS)]])
    return path


def write_clips(place: Path, n: int, clips: list[bytes]) -> Path:
    place.mkdir()
    for i in range(n):
        (place / f"{i}.mp3").write_bytes(clips[i % len(clips)])
    return place


def _beyond_start(folder: Path, write: Callable[[Path, int], Path], n: int) -> Rate:
    """Of n rows, less a tenth of them."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        (short, short_cpu), (long, long_cpu) = (
            _score(write(Path(own) / name, rows)) for name, rows in (("short", n // 10), ("long", n))
        )
    return Rate((n - n // 10) / (long - short), 1000 * (long_cpu - short_cpu) / (n - n // 10))


def _score(given: Path) -> tuple[float, float]:
    """Seconds, and those of CPU, that the command takes. Raises RuntimeError if it fails."""
    command = [sys.executable, "-m", "app.cli", "score", str(given), "--output", str(given.with_suffix(".out.csv"))]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def _of_server(running: Server, requests: list[bytes], seconds: float) -> Rate:
    before, started = running.cpu_seconds, time.perf_counter()
    rate = asyncio.run(closed_loop(running.port, requests, at_once=CLIENTS, seconds=seconds))
    answered = rate * (time.perf_counter() - started)
    return Rate(rate, 1000 * (running.cpu_seconds - before) / answered)


def table(result: Result) -> str:
    """Markdown."""
    share = result.clips.per_second / result.server_clips.per_second
    rows = [
        ("names, rows per second", f"{result.names.per_second:,.0f}", f"≥ {LEAST_NAMES_PER_SECOND:,.0f} on 2 cores"),
        ("names, CPU of a row", f"{1000 * result.names.cpu_ms:.0f} µs", ""),
        ("clips of 30 s, files per second", f"{result.clips.per_second:.2f}", ""),
        ("as a share of the server under load", f"{share:.0%}", f"≥ {LEAST_SHARE_OF_SERVER:.0%}"),
        ("clips, CPU of a file", f"{result.clips.cpu_ms:.0f} ms", ""),
        ("clips, CPU of the server for one", f"{result.server_clips.cpu_ms:.0f} ms", ""),
    ]
    lines = ["| figure | measured | required |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    return "\n".join([*lines, "", result.machine])


if __name__ == "__main__":
    main()
