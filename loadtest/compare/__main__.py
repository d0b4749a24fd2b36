"""This service beside what people would write instead: clips per second, and loads beyond capacity.

    python -m loadtest.compare                             # about 10 min on 2 cores
    python -m loadtest.compare --rivals plain --rounds 1 --seconds 5
    python -m loadtest.compare --json result.json
    python -m loadtest.compare --field --help              # songs, beside faster-whisper

All serve the same release and get the same 30 s MP3 clips, one server at a time, in another order each round. Each
is started, its peak is measured in a closed loop, then clips arrive in open loops at given shares of this service's own
peak. Each rival runs with two engines: `stock`, eager fp32, and `ours`, this service's engine, so that engine and server are
judged apart.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app.lab.markdown import table
from app.settings import Settings
from loadtest.client import Sent, audio_post, closed_loop, open_loop, percentile
from loadtest.compare.field import main as field_comparison
from loadtest.servers import REPOSITORY, SERVE, Server, StartError, machine, save, say, server
from loadtest.sounds import encoded

OURS = "this service"
RIVALS = ("plain", "tuned")
ENGINES = ("stock", "ours")
REQUIRED = {"stock": 2.3, "ours": 1.10}  # times the best rival's peak with that engine
CLIP_SECONDS, DISTINCT_CLIPS = 30.0, 8


@dataclass(frozen=True, slots=True)
class Load:
    """One open loop. Delays count from the moment a request was due; nan if there is none."""

    goodput_per_second: float
    p50_ms: float
    p99_ms: float
    rejected: int  # 429 or 503
    failed: int  # any other status, or no answer
    rejected_p99_ms: float


@dataclass(slots=True)
class Contender:
    """A server with one of the engines, and all rounds of it."""

    rival: str
    engine: str
    failure: str = ""  # why there are no figures
    peaks_per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of all its processes for one clip, at the peak
    loads: dict[str, list[Load]] = field(default_factory=dict)  # by share of this service's peak

    @property
    def name(self) -> str:
        return self.rival if self.rival == OURS else f"FastAPI, {self.rival}, {self.engine} engine"

    @property
    def command(self) -> tuple[str, ...]:
        return SERVE if self.rival == OURS else ("-m", "loadtest.compare.rivals", self.rival)

    @property
    def health(self) -> str:
        return "/health/ready" if self.rival == OURS else "/openapi.json"

    @property
    def peak(self) -> float:
        return median(self.peaks_per_second)


def main() -> None:
    if "--field" in sys.argv:
        field_comparison([argument for argument in sys.argv[1:] if argument != "--field"])
        return
    options = _options()
    rivals = [name for name in options.rivals.split(",") if name]
    everyone = [Contender(OURS, "ours"), *(Contender(name, engine) for name in rivals for engine in ENGINES)]
    requests = [audio_post(encoded(CLIP_SECONDS, seed, "MP3")) for seed in range(DISTINCT_CLIPS)]
    bare: list[float] = []
    for number in range(options.rounds):
        bare.append(_bare_engine(options.model))
        rest = everyone[1:]
        random.Random(number).shuffle(rest)
        for contender in [everyone[0], *rest]:  # this service first: its peak sets the loads
            if not contender.failure:
                _measure(contender, everyone[0], requests, options)
            scores = [asdict(each) for each in everyone]
            save(options.json, {"machine": machine(), "bare_engine": bare, "scores": scores})
    print(report(everyone, median(bare)))


def _measure(contender: Contender, ours: Contender, requests: Sequence[bytes], options: argparse.Namespace) -> None:
    """Measure one round; note a server that cannot be started."""
    environ = {"LRID_MODEL": options.model, "LRID_DEVICE": "cpu", "COMPARE_ENGINE": contender.engine}
    try:
        with server(contender.command, contender.health, **environ) as running:
            _warm_up(running, requests)
            before = running.cpu_seconds
            peak = asyncio.run(closed_loop(running.port, requests, at_once=options.clients, seconds=options.seconds))
            contender.peaks_per_second.append(peak)
            contender.cpu_ms.append(1e3 * (running.cpu_seconds - before) / max(peak * options.seconds, 1))
        say(f"{contender.name}: peak {peak:.2f}/s")
        for share in filter(None, options.loads.split(",")):
            with server(contender.command, contender.health, **environ) as running:  # anew: no backlog of the last load
                _warm_up(running, requests)
                rate = float(share) * ours.peaks_per_second[-1]
                load = summary(_offer(running.port, requests, rate, options), options.seconds)
            contender.loads.setdefault(share, []).append(load)
            say(f"{contender.name}: {load}")
    except StartError as error:
        contender.failure = str(error)[:200].replace("\n", " ")
        say(f"{contender.name}: {contender.failure}")


def _warm_up(running: Server, requests: Sequence[bytes]) -> None:
    asyncio.run(closed_loop(running.port, requests, at_once=2, seconds=2))


def _offer(port: int, requests: Sequence[bytes], per_second: float, options: argparse.Namespace) -> list[Sent]:
    load = open_loop(port, lambda n: requests[n % len(requests)], per_second=per_second, seconds=options.seconds,
                     patience_seconds=options.patience_seconds)  # fmt: skip
    return asyncio.run(load)


def summary(sent: Sequence[Sent], seconds: float) -> Load:
    """Sums up one load that was due over `seconds`."""
    good = [one for one in sent if one.status == 200]
    rejected = [one for one in sent if one.status in (429, 503)]
    took = max([seconds, *(one.due_seconds + one.seconds for one in good)])
    delays_ms = [1e3 * one.seconds for one in good]
    return Load(
        goodput_per_second=len(good) / took,
        p50_ms=percentile(delays_ms, 0.50),
        p99_ms=percentile(delays_ms, 0.99),
        rejected=len(rejected),
        failed=len(sent) - len(good) - len(rejected),
        rejected_p99_ms=percentile([1e3 * one.seconds for one in rejected], 0.99),
    )


def _bare_engine(model: str) -> float:
    """Windows per second of the engine alone, in a process of its own."""
    command = [sys.executable, "-m", "loadtest.engine", "--model", model, "--seconds", "3", "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["windows_per_second"])


def report(everyone: Sequence[Contender], bare_per_second: float) -> str:
    """Markdown."""
    shares = list(dict.fromkeys(share for each in everyone for share in each.loads))
    head = ["server", "peak /s", "CPU ms each"]
    for share in shares:
        head += [f"{share} ×: good /s", "p50 ms", "p99 ms", "rejected", "failed"]
    rows = []
    for each in everyone:
        cells = [each.name, f"none: {each.failure}" if each.failure else f"{each.peak:.2f}", _whole(median(each.cpu_ms))]
        for share in shares:
            cells += _load_cells(each.loads.get(share, []))
        rows.append(cells)
    ours, lines = everyone[0], [table(head, rows), ""]
    for engine, required in REQUIRED.items():
        rivals = [each for each in everyone[1:] if each.engine == engine and each.peak > 0]
        if rivals and ours.peak > 0:
            best = max(rivals, key=lambda each: each.peak)
            lines.append(f"- {ours.peak / best.peak:.2f} × {best.name} (required: {required:g} ×)")
    lines.append(f"- the bare engine: {bare_per_second:.2f} windows per second")
    return "\n".join([*lines, f"- {machine()}"])


def _load_cells(loads: list[Load]) -> list[str]:
    """Medians over the rounds."""
    if not loads:
        return [""] * 5
    names = ("p50_ms", "p99_ms", "rejected", "failed")
    goodput = median([load.goodput_per_second for load in loads])
    return [f"{goodput:.2f}", *(_whole(median([getattr(load, name) for load in loads])) for name in names)]


def median(values: Sequence[float]) -> float:
    """Returns the median of those that are numbers; nan if none is."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--rivals", default=",".join(RIVALS), help="separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of every load (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="at once, in the closed loop (default: %(default)s)")
    parser.add_argument("--loads", default="0.7,2", help="open loops, as shares of our own peak (default: %(default)s)")
    parser.add_argument("--patience-seconds", type=float, default=30.0, help="when a client gives up (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="save everything that was measured, after each contender")
    return parser.parse_args()


if __name__ == "__main__":
    main()
