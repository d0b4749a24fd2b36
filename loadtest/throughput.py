"""How fast, how big and how quiet the service is.

    python -m loadtest.throughput                    # about 1 min
    python -m loadtest.throughput --json result.json

Answers per second for 30 s MP3 clips and for names, the latter beside an empty FastAPI handler with the same schemas and one
that calls langdetect, in turn; CPU of the idle service, and the memory of all its processes after the load.
"""

import argparse
import asyncio
import selectors
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.lab.markdown import table
from app.settings import Settings
from loadtest.client import ask, audio_post, closed_loop, json_post
from loadtest.servers import Server, machine, save, server
from loadtest.sounds import TRACKS, encoded

BASELINES = ("-m", "uvicorn", "--factory", "loadtest.baselines:create_app", "--log-level", "warning", "--no-access-log")
NAME_CONNECTIONS = 8
SETTLE_SECONDS = 3.0  # after a load, until what its clients left is done
SHARE_OF_EMPTY, TIMES_LANGDETECT, IDLE_CPU_PERCENT, MEMORY_MB = 0.5, 8.0, 1.0, 2500.0  # required of the service


@dataclass(frozen=True, slots=True)
class Result:
    clips_per_second: float
    names_per_second: float
    empty_per_second: float
    langdetect_per_second: float
    idle_cpu_percent: float  # of one core
    memory_mb: float
    machine: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each figure in each round (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="that send clips at once (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with server(LRID_DEVICE="cpu", LRID_MODEL=options.model) as ours:
        answer = asyncio.run(ask(ours.port, json_post({"title": "La vie en rose"}))).body.decode()
        with server(BASELINES, "/openapi.json", ANSWER=answer) as baselines:
            result = measure(ours, baselines, options)
    save(options.json, asdict(result))
    print(report(result))


def measure(ours: Server, baselines: Server, options: argparse.Namespace) -> Result:
    """Rounds go back and forth, so that all meet the same machine; medians."""
    clips = [audio_post(encoded(30.0, seed, "MP3")) for seed in range(4)]
    names = {
        path: [json_post({"artist": a, "title": t}, path=path) for a, t in TRACKS] for path in ("/identify", "/langdetect")
    }
    asyncio.run(closed_loop(ours.port, clips, at_once=2, seconds=1))  # warm up
    ends = ((ours, "/identify"), (baselines, "/identify"), (baselines, "/langdetect"))
    rates: list[list[float]] = [[], [], []]
    clip_rates = []
    memory_mb = 0.0
    for number in range(options.rounds + 1):
        for found, (end, path) in zip(rates, ends, strict=True):
            rate = names_per_second(end.port, names[path], options.seconds if number else 1.0)
            if number:  # the first round warms up
                found.append(rate)
        if number:
            clip_rates.append(
                asyncio.run(closed_loop(ours.port, clips, at_once=options.clients, seconds=3 * options.seconds))
            )
            memory_mb = ours.tree_pss_mb
            time.sleep(SETTLE_SECONDS)
    before = ours.cpu_seconds
    time.sleep(10)
    idle = 100 * (ours.cpu_seconds - before) / 10
    names_rate, empty, langdetect = map(statistics.median, rates)
    return Result(statistics.median(clip_rates), names_rate, empty, langdetect, idle, memory_mb, machine())


def names_per_second(port: int, requests: Sequence[bytes], seconds: float) -> float:
    """A closed loop over raw sockets, so that the client costs little. Raises RuntimeError at any status but 200."""
    selector, numbers, answered = selectors.DefaultSelector(), iter(range(1 << 62)), 0
    for _ in range(NAME_CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, connection)
        connection.sendall(requests[next(numbers) % len(requests)])
    started = time.perf_counter()
    while time.perf_counter() < started + seconds:
        for key, _ in selector.select(timeout=1):
            _read_answer(key.data)
            answered += 1
            key.data.sendall(requests[next(numbers) % len(requests)])
    for key in list(selector.get_map().values()):
        key.data.close()
    return answered / (time.perf_counter() - started)


def _read_answer(connection: socket.socket) -> None:
    data = connection.recv(65_536)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += connection.recv(65_536)
    if not data.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"expected 200, got {data[:200]!r}")
    length = int(data[:end].lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    missing = end + 4 + length - len(data)
    while missing > 0:
        missing -= len(connection.recv(missing))


def report(result: Result) -> str:
    """Markdown."""
    of_empty = result.names_per_second / result.empty_per_second
    times_langdetect = result.names_per_second / result.langdetect_per_second
    rows = [
        ("clips of 30 s, per second", f"{result.clips_per_second:.2f}", ""),
        ("names, per second", f"{result.names_per_second:,.0f}", ""),
        ("as a share of an empty FastAPI handler", f"{of_empty:.0%}", f"≥ {SHARE_OF_EMPTY:.0%}"),
        ("relative to a handler that calls langdetect", f"{times_langdetect:.1f} ×", f"≥ {TIMES_LANGDETECT:g} ×"),
        ("CPU when idle, of one core", f"{result.idle_cpu_percent:.2f} %", f"< {IDLE_CPU_PERCENT:g} %"),
        ("memory of all processes after the load (PSS)", f"{result.memory_mb:,.0f} MB", f"< {MEMORY_MB:,.0f} MB"),
    ]
    return f"{table(['figure', 'measured', 'required'], rows)}\n\n{result.machine}"


if __name__ == "__main__":
    main()
