"""How fast `lrid score` is: names by themselves, and clips beside a server under load.

    python -m loadtest.score                    # about 2 min on two cores
    python -m loadtest.score --json result.json

On clips, command and server take turns of some seconds, and the other one is suspended meanwhile: what else the machine does
slows both. Neither starts or ends within a turn. CPU time is that of all processes; it barely depends on what else runs.
"""

import argparse
import asyncio
import contextlib
import csv
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from app.lab.markdown import table
from app.settings import Settings
from loadtest.client import audio_post, closed_loop
from loadtest.servers import END_SECONDS, REPOSITORY, START_SECONDS, Processes, end, machine, save, say, server, wait_until
from loadtest.sounds import TRACKS, encoded

LEAST_NAMES_PER_SECOND, LEAST_SHARE_OF_SERVER = 10_000.0, 0.95  # required, on two cores
CLIENTS = 16
WARM = 2 * CLIENTS  # rows and answers before the first turn


@dataclass(frozen=True, slots=True)
class Rate:
    """Rows or answers per second, and what they cost, over all turns."""

    per_second: float
    cpu_ms: float  # of one
    cores: float  # that were busy


@dataclass(frozen=True, slots=True)
class Result:
    names: Rate
    clips: Rate
    server_clips: Rate
    machine: str


@dataclass(slots=True)
class Turns:
    """Adds up what `processes` do in their turns; `done` counts rows or answers so far."""

    processes: Processes
    done: Callable[[], int]
    n: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def take(self, seconds: float) -> None:
        """Let them work for one turn. Raises RuntimeError if the process has ended."""
        n, cpu_seconds, started = self.done(), self.processes.cpu_seconds, time.perf_counter()
        time.sleep(seconds)
        if self.processes.process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError("the command ended within its turn: give it more rows by --names or --clips")
        self.n += self.done() - n
        self.cpu_seconds += self.processes.cpu_seconds - cpu_seconds
        self.seconds += time.perf_counter() - started

    @property
    def rate(self) -> Rate:
        n = max(self.n, 1)
        return Rate(self.n / self.seconds, 1000 * self.cpu_seconds / n, self.cpu_seconds / self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=6, help="of command and server each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn; names get two (default: %(default)s)")
    parser.add_argument("--names", type=int, default=1_000_000, help="rows of the table (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=10_000, help="files of the folder (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ |= {"LRID_MODEL": options.model, "LRID_DEVICE": "cpu", "LRID_REQUEST_TIMEOUT_SECONDS": "300"}
    with tempfile.TemporaryDirectory(prefix="lrid-score-") as folder:
        names = measure_names(Path(folder), options)
        clips, asked = measure_clips(Path(folder), options)
    result = Result(names, clips, asked, machine())
    save(options.json, asdict(result))
    print(report(result))


def measure_names(folder: Path, options: argparse.Namespace) -> Rate:
    with scoring(write_names(folder / "names.csv", options.names)) as turns:
        turns.take(2 * options.seconds)
    _say("names", turns)
    return turns.rate


def measure_clips(folder: Path, options: argparse.Namespace) -> tuple[Rate, Rate]:
    """Returns the rates of the command and of the server."""
    clips = [encoded(30.0, seed, "MP3") for seed in range(4)]
    songs = write_clips(folder / "clips", options.clips, clips)
    with server() as running, asking(running.port, [audio_post(clip) for clip in clips]) as answers:
        asked = Turns(running, lambda: len(answers))
        wait_until(lambda: asked.done() >= WARM, START_SECONDS)
        with suspended(running), scoring(songs) as scored:
            for _ in range(options.turns):
                scored.take(options.seconds)
                _say("lrid score", scored)
                with suspended(scored.processes), suspended(running, otherwise=True):
                    asked.take(options.seconds)
                _say("server", asked)
    return scored.rate, asked.rate


@contextlib.contextmanager
def scoring(songs: Path) -> Iterator[Turns]:
    """Run `lrid score`, some of whose rows are written already."""
    output = songs.with_suffix(".out.csv")
    command = [sys.executable, "-m", "app.cli", "score", str(songs), "--output", str(output)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def n_lines() -> int:
        return output.read_bytes().count(b"\n") if output.exists() else 0

    try:
        wait_until(lambda: process.poll() is not None or n_lines() > WARM, START_SECONDS)
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        yield Turns(Processes(psutil.Process(process.pid)), n_lines)
    finally:
        end(process, signal.SIGINT)


@contextlib.contextmanager
def asking(port: int, requests: list[bytes]) -> Iterator[list[float]]:
    """Run clients that ask again as soon as they are answered; gives the times of the good answers."""
    ends: list[float] = []
    stop = threading.Event()
    load = closed_loop(port, requests, at_once=CLIENTS, seconds=float("inf"), ends=ends, until=stop.is_set)
    thread = threading.Thread(target=lambda: asyncio.run(load), daemon=True)
    thread.start()
    try:
        yield ends
    finally:
        stop.set()
        thread.join(END_SECONDS)


@contextlib.contextmanager
def suspended(processes: Processes, *, otherwise: bool = False) -> Iterator[None]:
    """Stop the first process inside the block; `otherwise`: it is stopped, and runs inside the block.

    Its decoders finish what they have and wait; a decoder that is stopped itself would be replaced.
    """
    first, then = (signal.SIGCONT, signal.SIGSTOP) if otherwise else (signal.SIGSTOP, signal.SIGCONT)
    processes.process.send_signal(first)
    try:
        yield
    finally:
        processes.process.send_signal(then)


def write_names(path: Path, n: int) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["artist", "title"])
        writer.writerows((artist, f"{title} {i}") for i in range(n) for artist, title in [TRACKS[i % len(TRACKS)]])
    return path


def write_clips(folder: Path, n: int, clips: list[bytes]) -> Path:
    """n names of as many files as there are clips."""
    folder.mkdir()
    for i in range(n):
        if i < len(clips):
            (folder / f"{i}.mp3").write_bytes(clips[i])
        else:
            (folder / f"{i}.mp3").hardlink_to(folder / f"{i % len(clips)}.mp3")
    return folder


def _say(what: str, turns: Turns) -> None:
    rate = turns.rate
    say(f"{what}: {rate.per_second:,.1f}/s, {rate.cpu_ms:.3g} ms of CPU each")


def report(result: Result) -> str:
    """Markdown."""
    share = result.clips.per_second / result.server_clips.per_second
    rows = [
        ("names, rows per second", f"{result.names.per_second:,.0f}", f"≥ {LEAST_NAMES_PER_SECOND:,.0f} on 2 cores"),
        ("names, CPU of a row", f"{1000 * result.names.cpu_ms:.0f} µs", ""),
        ("clips of 30 s, files per second", f"{result.clips.per_second:.2f}", ""),
        ("the server under load, answers per second", f"{result.server_clips.per_second:.2f}", ""),
        ("files as a share of these", f"{share:.1%}", f"≥ {LEAST_SHARE_OF_SERVER:.0%}"),
        ("clips, CPU of a file; of the server for one", _both(result, "cpu_ms", "{:.0f} ms"), ""),
        ("clips, busy cores; of the server", _both(result, "cores", "{:.2f}"), ""),
    ]
    return f"{table(['figure', 'measured', 'required'], rows)}\n\n{result.machine}"


def _both(result: Result, name: str, form: str) -> str:
    return "; ".join(form.format(getattr(rate, name)) for rate in (result.clips, result.server_clips))


if __name__ == "__main__":
    main()
