"""This service beside the servers that people would pick instead.

    python -m loadtest.compare                             # all of them; about 45 min on 2 cores
    python -m loadtest.compare --rivals plain,tuned --rounds 1 --seconds 5
    python -m loadtest.compare --json result.json --png result.png

Every rival gets a virtual environment of its own under --envs, made once; torch is shared with this one. All serve the
same release, get the same 30 s MP3 clips, and are measured in turn, one at a time, each round in another order. In a round
each is started, its peak is measured in a closed loop, and then loads arrive at given shares of this service's own peak
whatever becomes of them. Needs the extra `loadtest` and psutil.

A rival comes with up to three engines. `stock`: eager fp32. `ours`: this service's engine (log-mel and trunk) in place of
it, and nothing else, so that engine and server are judged apart. `ours+decoding`: with this service's decoder, downmix and
resampler as well, which are a part of the server; nothing is asked of that one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings
from loadtest.compare.contenders import ENGINES, Contender, contenders, rivals
from loadtest.compare.environments import Environment, prepare, this_environment
from loadtest.compare.measure import offer, peak
from loadtest.compare.processes import REPOSITORY, CannotStartError, ask, started
from loadtest.compare.report import Comparison, Score, draw, save_json, table
from loadtest.sounds import encoded

CLIP_SECONDS, DISTINCT_CLIPS = 30.0, 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard."""

    store: Path
    rounds: int
    seconds: float
    at_once: int
    loads: tuple[float, ...]
    patience_seconds: float


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers that were started are ended on the way out
    names = [name for name in options.rivals.split(",") if name]
    plan = Plan(
        options.model_store.resolve(), options.rounds, options.seconds, options.clients,
        tuple(float(load) for load in options.loads.split(",") if load), options.patience_seconds,
    )  # fmt: skip
    parts = contenders(names, options.engines.split(","))
    environments = {part.rival.name: _environment(part, options.envs) for part in parts}
    result = Comparison(_machine(), [], [_score(part, environments[part.rival.name]) for part in parts])
    clips = [encoded(CLIP_SECONDS, seed, "MP3") for seed in range(DISTINCT_CLIPS)]
    for number in range(plan.rounds):
        result.trunk_per_second.append(_trunk_per_second(plan.store))
        rest = parts[1:]
        random.Random(number).shuffle(rest)
        for part in [parts[0], *rest]:  # this service first: its peak sets the loads
            score = next(score for score in result.scores if score.name == part.name)
            if not score.failure:
                _one(part, environments[part.rival.name], score, result, clips, plan)
            if options.json:
                save_json(result, options.json)
    print(table(result))
    if options.png:
        draw(result, options.png)


def _one(
    part: Contender, environment: Environment, score: Score, result: Comparison, clips: Sequence[bytes], plan: Plan
) -> None:
    """One round of one contender; a server that cannot be started is noted."""
    requests = [part.request(clip) for clip in clips]
    _say(f"{part.name} ...")
    try:
        with started(part, environment, plan.store, clips[0]) as (port, process):
            _warm_up(port, requests, score)
            best = peak(port, process, requests, plan.at_once, plan.seconds)
            score.peaks_per_second.append(best.per_second)
            score.cpu_ms.append(best.cpu_ms)
        _say(f"{part.name}: peak {best.per_second:.2f}/s, {best.cpu_ms:.0f} ms of CPU each")
        for share in plan.loads:
            with started(part, environment, plan.store, clips[0]) as (port, _):  # anew: no backlog of the last load
                _warm_up(port, requests, score)
                rate = share * result.ours.peaks_per_second[-1]
                load = offer(port, requests, rate, plan.seconds, plan.patience_seconds)
            score.loads.setdefault(f"{share:g}", []).append(load)
            _say(f"{part.name}: {load}")
    except CannotStartError as error:
        score.failure = f"did not start: {error}"
        _say(f"{part.name}: {score.failure}")


def _warm_up(port: int, requests: Sequence[bytes], score: Score) -> None:
    """Every worker process has probably seen a clip; one answer is kept, to compare it with the others'."""
    for request in requests[:4]:
        reply = ask(port, request, 60)
    if reply is not None and reply.status == 200 and not score.example:
        score.example = probabilities(reply.json())


def probabilities(body: object) -> dict[str, float]:
    """Of this service's answer, a rival's, or a rival's that answers in lists."""
    if isinstance(body, list):
        body = body[0]
    assert isinstance(body, dict)
    if "languages" in body:
        return {entry["code"]: entry["probability"] for entry in body["languages"]}
    return body


def _score(part: Contender, environment: Environment) -> Score:
    failure = f"cannot be installed: {environment.failure}" if environment.failure else ""
    return Score(part.name, part.rival.name, part.engine, environment.version, failure)


def _environment(part: Contender, folder: Path) -> Environment:
    if not part.rival.requirements:
        return this_environment()
    name = next(key for key, rival in rivals().items() if rival.name == part.rival.name)
    return prepare(folder.expanduser() / name, part.rival.requirements)


def _trunk_per_second(store: Path) -> float:
    """Rate of the bare engine, in a process of its own."""
    command = [sys.executable, "-m", "loadtest.engine", "--model-store", str(store), "--seconds", "3", "--json"]
    found = json.loads(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)
    rate: float = found["windows_per_second"]
    _say(f"bare engine in {found['precision']}: {rate:.2f} windows/s")
    return rate


def _machine() -> dict[str, str]:
    model = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": model or platform.processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "load average before": f"{os.getloadavg()[0]:.1f}",
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", default=",".join(rivals()), help="which, separated by commas (default: %(default)s)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="of the rivals (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of every load (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="at once, in the closed loop (default: %(default)s)")
    parser.add_argument("--loads", default="0.7,2", help="open loops, as shares of our own peak (default: %(default)s)")
    parser.add_argument("--patience-seconds", type=float, default=30.0, help="when a client gives up (default: %(default)s)")
    parser.add_argument("--model-store", type=Path, default=Settings().model_store)
    parser.add_argument("--envs", type=Path, default=Path("~/.cache/lrid-compare"), help="where environments are kept")
    parser.add_argument("--json", type=Path, help="save everything that was measured, after each contender")
    parser.add_argument("--png", type=Path, help="draw peaks and p99")
    return parser.parse_args()


if __name__ == "__main__":
    main()
