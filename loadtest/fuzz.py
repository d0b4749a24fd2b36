"""Nearly right requests by the thousand: nothing may crash, hang, leak, or answer with a server error.

    python -m loadtest.fuzz --cases 20000 --seed 1
    python -m loadtest.fuzz --cases 300 --keep /tmp/found       # requests that failed are kept there, to become tests
    python -m loadtest.fuzz --schemathesis                      # by the OpenAPI document instead

Starts a server of its own with the default release, one window per track. A control follows every hundredth case: a good
request, whose answer must be the same each time, times aside. Controls that the service has no room or time for are sent
again and counted. Exit code 1 if anything was wrong. 20,000 cases take about 15 minutes on two free cores.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.lab.markdown import table
from loadtest.client import NO_REPLY, Connections, Reply, audio_post, read_reply
from loadtest.mutations import Case, Cases
from loadtest.servers import REPOSITORY, Server, say, server
from loadtest.soak import slope_per_hour
from loadtest.sounds import encoded

ADMIN_KEY = "fuzz"
AT_ONCE = 8  # many cases only wait: for the server to close, or for a decoder
ANSWER_SECONDS = 60.0  # beyond the 20 s that a decoder may take and the deadline of 20 s
QUIET_SECONDS = 0.3  # an incomplete request may stay unanswered for so long before we hang up
CLOSE_SECONDS = 15.0  # in which the server must then close
ALLOWED_SERVER_ERRORS = (503, 504)
NO_ROOM = (429, 503, 504)
TRIES = 20  # of a request that the service has no room for
WAIT_SECONDS = 1.0  # before it is sent again, where no Retry-After came


Answer = dict[str, Any]


@dataclass
class Tally:
    """Counts what came out."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    costly: list[str] = field(default_factory=list)  # cases after which a decoder was replaced
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
    with server(LRID_MAX_WINDOWS="1", LRID_ADMIN_KEYS=ADMIN_KEY, LRID_DEVICE="cpu") as running:
        if options.schemathesis:
            raise SystemExit(schemathesis(running.port, options.cases, options.seed))
        numbers = range(options.first, options.first + options.cases)
        tally = asyncio.run(fuzz(running, Cases(options.seed), numbers, options.keep))
        log_errors = collections.Counter(_errors_in(running.log))
    tally.failures += [f"logged {n} times: {message}" for message, n in log_errors.most_common(20)]
    print(report(tally))
    raise SystemExit(1 if tally.failures else 0)


async def fuzz(running: Server, cases: Cases, numbers: range, keep: Path | None) -> Tally:
    tally, todo, began = Tally(), iter(numbers), time.monotonic()
    good = audio_post(encoded(2.0, 1, "WAV"), {"title": "La vie en rose", "artist": "Édith Piaf"})

    async def worker(connections: Connections, expected: Answer) -> None:
        for number in todo:
            await _one(running.port, number, cases[number], tally, keep)
            done = tally.done  # others continue while this one waits
            if done % 100 == 0:
                came = await _control(connections, good, tally)
                if came != expected:
                    tally.failures.append(
                        f"after case {number}: the control's answer differs: {_difference(expected, came)}"
                    )
                tally.rss_mb.append((time.monotonic() - began, running.rss_mb))
                say(f"{done} of {len(numbers)} cases, {len(tally.failures)} failures, {running.rss_mb:.0f} MB")

    async with Connections(running.port) as connections, asyncio.TaskGroup() as group:
        expected = await _control(connections, good, tally)
        for _ in range(AT_ONCE):
            group.create_task(worker(connections, expected))
    if running.process.status() == psutil.STATUS_ZOMBIE:
        tally.failures.append("the server has ended")
    tally.seconds = time.monotonic() - began
    return tally


async def _control(connections: Connections, good: bytes, tally: Tally) -> Answer:
    """Returns the answer to the good request, which is sent again while the service has no room or time for it."""
    for _ in range(TRIES):
        reply = await connections.exchange(good)
        tally.outcomes[f"control: {_outcome(reply)}"] += 1
        if reply.status not in NO_ROOM:
            break
        await asyncio.sleep(reply.retry_after_seconds or WAIT_SECONDS)
    answer: Answer = {"status": reply.status} | (reply.json() if reply.body else {})
    answer.pop("timing_ms", None)
    return answer


def _difference(expected: Answer, came: Answer) -> str:
    names = [name for name in expected | came if expected.get(name) != came.get(name)]
    return "; ".join(f"{name}: {expected.get(name)} → {came.get(name)}" for name in names)


async def _one(port: int, number: int, case: Case, tally: Tally, keep: Path | None) -> None:
    for _ in range(TRIES):
        started = time.monotonic()
        outcome = await send(port, case)
        tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - started)
        tally.outcomes[f"{case.kind.partition(':')[0]}: {outcome.partition(' (')[0]}"] += 1
        if not outcome.startswith(("429", "503")):
            break
        await asyncio.sleep(WAIT_SECONDS)
    problem = judge(case, outcome)
    costly = "decoder_crashed" in outcome or "decoder_timeout" in outcome
    if problem or costly:
        (tally.failures if problem else tally.costly).append(f"case {number}, {case.kind}: {problem or outcome}")
        if keep:
            (keep / f"case-{number}").write_bytes(case.data)
    tally.done += 1


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
        if case.whole or not await _closes(reader, writer):
            return "hung"
    finally:
        writer.close()
    return _outcome(reply) if reply.status else "closed"


async def _closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Tells whether the server closes after we shut our side down."""
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
    """Says what is wrong with the outcome; empty if nothing."""
    status = int(outcome[:3]) if outcome[0].isdigit() else 0
    if status >= 500 and status not in ALLOWED_SERVER_ERRORS:
        return f"answered {outcome}"
    if outcome == "hung" or outcome.startswith("unreachable"):
        return outcome
    return "a whole request was not answered" if case.whole and not status else ""


def _errors_in(log: Path) -> Iterator[str]:
    for line in log.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry["level"] in ("error", "critical"):
                yield f"{entry['logger']}: {entry['message']} {entry.get('cause', '')}".strip()


def report(tally: Tally) -> str:
    """Markdown."""
    settled = tally.rss_mb[len(tally.rss_mb) // 4 :]  # the first quarter fills caches
    rss = f"{tally.rss_mb[0][1]:.0f} → {tally.rss_mb[-1][1]:.0f} MB" if tally.rss_mb else "not measured"
    lines = [
        table(["outcome", "cases"], [[name, str(n)] for name, n in sorted(tally.outcomes.items())]),
        "",
        f"{tally.done} cases in {tally.seconds:.0f} s, {len(tally.failures)} failures, {len(tally.costly)} decoders "
        f"replaced, slowest {tally.slowest_seconds:.1f} s; "
        f"memory of the server process {rss}, {slope_per_hour(settled):+.1f} MB an hour after the first quarter.",
        *(f"- {failure}" for failure in tally.failures[:50]),
        *(f"- a decoder was replaced after {case}" for case in tally.costly[:50]),
    ]
    return "\n".join(lines)


def schemathesis(port: int, cases: int, seed: int) -> int:
    """Runs Schemathesis, but for the batch, whose NDJSON it cannot write; a status that is not listed is a failure."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json", "--checks", checks,
               "--exclude-path", "/identify/batch", "--max-examples", str(cases), "--seed", str(seed),
               "--workers", "1",  # in two threads CPython 3.11's ast.parse fails now and then
               "--header", "X-Request-Timeout: 60",  # its own would be too short for any answer, for which 504 is right
               "--header", f"Authorization: Bearer {ADMIN_KEY}"]  # fmt: skip
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    main()
