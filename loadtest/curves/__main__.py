"""Cost as work grows: with the number of clients, with a song's length, and with the number of requests.

    python -m loadtest.curves                                    # about 8 min on 2 cores
    python -m loadtest.curves --seconds 4 --requests 2000        # about 3 min
    python -m loadtest.curves --json curves.json --png curves.png

One service, on the CPU. First songs of 10 s to 20 min, one request at a time: time, CPU time of all processes, windows.
Then 1 to 256 clients in a closed loop with 30 s MP3 clips: answers a second and p99 from a client's question to its answer,
and what was refused; who is refused comes again after Retry-After. Last, mixed requests (names, clips, and some that must be
refused), and the memory of the process tree, measured every 500: the slope of all but the first fifth, in which caches fill.
Needs the extra `loadtest` (matplotlib, for --png) and psutil.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from loadtest.curves.measure import at_once, by_length, memory_over
from loadtest.curves.report import Curves, draw, table
from loadtest.servers import OURS, server
from loadtest.sounds import encoded

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LENGTHS_SECONDS = (10.0, 30.0, 60.0, 120.0, 240.0, 480.0, 1200.0)
DISTINCT_CLIPS = 4


def main() -> None:
    options = _options()
    clips = [encoded(30.0, seed, "MP3") for seed in range(DISTINCT_CLIPS)]
    result = Curves()
    with server(OURS, "/health/ready", LRID_DEVICE="cpu") as (port, process):
        for seconds in LENGTHS_SECONDS:
            _add(result.lengths, lambda s=seconds: by_length(port, process, s, options.repeats))
        for clients in CLIENTS:
            _add(result.clients, lambda n=clients: at_once(port, process, clips, n, options.seconds))
        result.memory = asyncio.run(memory_over(port, process, clips, options.requests))
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    if options.png:
        draw(result, options.png)


def _add(points: list, measure: Callable[[], object]) -> None:  # type: ignore[type-arg]
    points.append(measure())
    print(points[-1], file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each number of clients (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each length (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=20_000, help="mixed, for the memory (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
