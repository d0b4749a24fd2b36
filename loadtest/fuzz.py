"""Nearly right requests by the thousand: nothing may crash, hang, leak, or answer with a server error.

    python -m loadtest.fuzz --cases 20000 --seed 1
    python -m loadtest.fuzz --cases 300 --keep /tmp/found       # what failed is kept there, to become a test
    python -m loadtest.fuzz --schemathesis                      # by the OpenAPI document instead

Starts the server with a tiny release of random weights: what is tested is all around the network. Every case is a
function of seed and number (almost; see loadtest.mutations). A good request goes along with every hundredth case, and its
answer must be the same bytes each time, times aside. Exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from loadtest.mutations import Case, Cases
from loadtest.openloop import NO_REPLY, Connections, Reply, audio_post, read_reply
from loadtest.servers import REPOSITORY, server
from loadtest.soak import slope_per_hour
from tests import audio_samples
from tests.releases import write_release

ADMIN_KEY = "fuzz"
AT_ONCE = 4
ANSWER_SECONDS = 40.0  # beyond the 20 s that a decoder may take and the deadline of 20 s
QUIET_SECONDS = 0.3  # what is no whole request may go unanswered: after that we hang up
CLOSE_SECONDS = 15.0  # and the server has to let go
SERVER_ERRORS_THAT_MAY_BE = (503, 504)


@dataclass
class Tally:
    """What came out."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    costly: list[str] = field(default_factory=list)  # a decoder had to be replaced: no failure, but not free either
    slowest_seconds: float = 0.0
    rss_mb: list[tuple[float, float]] = field(default_factory=list)  # (seconds, of the server process itself)
    done: int = 0
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=Path, help="folder for the requests that failed")
    parser.add_argument("--schemathesis", action="store_true", help="generate from /openapi.json instead")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    with running() as (port, process, log):
        if options.schemathesis:
            raise SystemExit(schemathesis(port, options.cases, options.seed))
        cases = Cases(options.seed)
        tally = asyncio.run(fuzz(port, process, cases, range(options.first, options.first + options.cases), options.keep))
        log_errors = collections.Counter(_errors_in(log))
    print(report(tally, log_errors))
    raise SystemExit(1 if tally.failures else 0)


@contextlib.contextmanager
def running() -> Iterator[tuple[int, psutil.Process, Path]]:
    """A server of its own: port, process, log."""
    with tempfile.TemporaryDirectory(prefix="lrid-fuzz-") as folder:
        write_release(Path(folder))
        log = Path(folder) / "log.jsonl"
        settings = {"LRID_MODEL_STORE": folder, "LRID_TORCH_THREADS": "1", "LRID_PRECISION": "fp32", "LRID_MAX_WINDOWS": "3"}
        settings |= {"LRID_MODEL": "lrid_net/1", "LRID_ADMIN_KEYS": ADMIN_KEY}
        arguments = ("-m", "loadtest.logged", str(log), "serve", "--log-level", "warning", "--device", "cpu")
        with server(arguments, "/health/ready", **settings) as (port, process):
            yield port, process, log


async def fuzz(port: int, process: psutil.Process, cases: Cases, numbers: range, keep: Path | None) -> Tally:
    tally, todo, began = Tally(), iter(numbers), time.monotonic()
    good = audio_post(audio_samples.wav(), {"title": "La vie en rose", "artist": "Édith Piaf"})
    connections = Connections(port)
    expected = _without_times(await connections.exchange(good))

    async def worker() -> None:
        for number in todo:
            case = cases[number]
            started = time.monotonic()
            outcome = await send(port, case)
            tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - started)
            tally.outcomes[f"{case.kind.partition(':')[0]}: {outcome.partition(' (')[0]}"] += 1
            problem = judge(case, outcome)
            costly = "decoder_crashed" in outcome or "decoder_timeout" in outcome
            if problem or costly:
                (tally.failures if problem else tally.costly).append(f"case {number}, {case.kind}: {problem or outcome}")
                if keep:
                    (keep / f"case-{number}").write_bytes(case.data)
            tally.done += 1
            done = tally.done  # others go on while this one waits
            if done % 100 == 0:
                if _without_times(await connections.exchange(good)) != expected:
                    tally.failures.append(f"after case {number}: a good request was answered otherwise than at first")
                tally.rss_mb.append((time.monotonic() - began, process.memory_info().rss / 1e6))
            if done % 1000 == 0:
                print(f"{done} cases, {len(tally.failures)} failures, {tally.rss_mb[-1][1]:.0f} MB", file=sys.stderr)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
        tally.failures.append("the server has ended")
    await connections.close()
    tally.seconds = time.monotonic() - began
    return tally


async def send(port: int, case: Case) -> str:
    """`status code` of the answer, `closed` (without an answer), or `hung`."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    except OSError as error:
        return f"unreachable ({error})"
    reply = NO_REPLY
    try:
        writer.write(case.data)
        with contextlib.suppress(EOFError, OSError, ValueError):
            async with asyncio.timeout(ANSWER_SECONDS if case.whole else QUIET_SECONDS):
                reply = await read_reply(reader)
    except TimeoutError:
        if case.whole or not await _lets_go(reader, writer):
            return "hung"
    finally:
        writer.close()
    return _outcome(reply) if reply.status else "closed"


async def _lets_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    with contextlib.suppress(OSError):
        writer.write_eof()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await reader.read()
        except TimeoutError:
            return False
    return True


def _outcome(reply: Reply) -> str:
    try:
        return f"{reply.status} {reply.json()['code']}" if reply.status >= 400 else str(reply.status)
    except (ValueError, KeyError, TypeError):
        return f"{reply.status} plain"


def judge(case: Case, outcome: str) -> str:
    """What is wrong with the outcome; empty if nothing."""
    status = int(outcome[:3]) if outcome[0].isdigit() else 0
    if status >= 500 and status not in SERVER_ERRORS_THAT_MAY_BE:
        return f"answered {outcome}"
    if outcome == "hung" or outcome.startswith("unreachable"):
        return outcome
    if case.whole and not status:
        return "a whole request was not answered"
    return ""


def _without_times(reply: Reply) -> bytes:
    if reply.status != 200:
        return b"%d " % reply.status + reply.body
    answer = reply.json()
    del answer["timing_ms"]
    return json.dumps(answer, sort_keys=True).encode()


def _errors_in(log: Path) -> Iterator[str]:
    for line in log.read_text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry["level"] in ("error", "critical"):
                yield f"{entry['logger']}: {entry['message']} {entry.get('cause', '')}".strip()


def report(tally: Tally, log_errors: collections.Counter[str]) -> str:
    """Markdown."""
    lines = ["| outcome | cases |", "|---|---|", *(f"| {name} | {n} |" for name, n in sorted(tally.outcomes.items()))]
    settled = tally.rss_mb[len(tally.rss_mb) // 4 :]  # the first quarter fills caches
    rss = f"{tally.rss_mb[0][1]:.0f} → {tally.rss_mb[-1][1]:.0f} MB" if tally.rss_mb else "not measured"
    lines += [
        "",
        f"{tally.done} cases in {tally.seconds:.0f} s, {len(tally.failures)} failures, {len(tally.costly)} decoders "
        f"replaced, slowest {tally.slowest_seconds:.1f} s; "
        f"memory of the server process {rss}, {slope_per_hour(settled):+.1f} MB an hour after the first quarter.",
        *(f"- {failure}" for failure in tally.failures[:50]),
        *(f"- a decoder was replaced after {case}" for case in tally.costly[:50]),
        *(f"- logged {n} times: {message}" for message, n in log_errors.most_common(20)),
    ]
    return "\n".join(lines)


def schemathesis(port: int, cases: int, seed: int) -> int:
    """Its own command, all operations of the document; a status that the document does not list is a failure."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json", "--checks", checks,
               "--max-examples", str(cases), "--seed", str(seed), "--workers", "2",
               "--header", f"Authorization: Bearer {ADMIN_KEY}"]  # fmt: skip
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    main()
