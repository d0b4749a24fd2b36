"""Parts that are killed, releases that are swapped, and the end of the server, all under load."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from app.settings import Settings
from loadtest.chaos.rows import NAME, Load, Row, in_ms
from loadtest.client import Connections, Reply, Sent, ask, json_post, open_loop
from loadtest.servers import Server, server, wait_until

KEY = "chaos-admin-key"
IN_FLIGHT = 40
PER_SECOND = 5.0
STARTED_SECONDS = 2.0  # in which a decoder has surely started


def decoders(load: Load) -> list[Row]:
    """Kill a decoder now and then under load."""

    def kill(running: Server) -> None:
        """Kills the oldest, unless the others have just been started."""
        oldest, *others = sorted(running.decoders, key=lambda process: process.create_time())
        if others and time.time() - others[-1].create_time() > STARTED_SECONDS:
            oldest.kill()

    with server() as running:
        sent, kills = asyncio.run(_beside(running, load, kill))
        wait_until(lambda: running.get("/health/ready")[0] == 200)
    outcomes = Counter(one.reply.outcome for one in sent)
    bad = outcomes.total() - outcomes["200"] - outcomes["decoder_crashed"]
    return [
        Row(
            f"a decoder is killed again and again, {kills} times at most, under load",
            f"answers {dict(outcomes)} of {len(sent)} (a file that kills two decoders is rejected)",
            "200, at most 5 % decoder_crashed; ready again",
            bad == 0 and outcomes["decoder_crashed"] <= 0.05 * len(sent),
        )
    ]


def swap(load: Load) -> list[Row]:
    """Load the release anew, again and again, under load."""
    request = json_post({"model": Settings().model}, f"Authorization: Bearer {KEY}", path="/admin/releases")

    def replace(running: Server) -> None:
        status = asyncio.run(ask(running.port, request)).status
        if status != 200:
            raise RuntimeError(f"swap: expected 200, got {status}")

    with server(LRID_ADMIN_KEYS=KEY) as running:
        before_mb = running.rss_mb
        sent, swaps = asyncio.run(_beside(running, load, replace))
        time.sleep(10)
        grown_mb = running.rss_mb - before_mb
    failed = sum(one.status != 200 for one in sent)
    measured = (
        f"{failed} of {len(sent)} requests failed; {in_ms([one.seconds for one in sent])}; {grown_mb:+.0f} MB after 10 s"
    )
    return [Row(f"{swaps} swaps under load", measured, "0 failed", failed == 0)]


async def _beside(running: Server, load: Load, work: Callable[[Server], None]) -> tuple[list[Sent], int]:
    """Clips and names in turn at a rate that the server can do, while `work` is called every second in a thread."""
    requests = (load.clip, NAME, NAME, NAME)

    def repeat() -> int:
        ends_at, n = time.monotonic() + load.seconds, 0
        while time.monotonic() < ends_at:
            work(running)
            n += 1
            time.sleep(1)
        return n

    working = asyncio.create_task(asyncio.to_thread(repeat))
    sent: list[Sent] = []
    while not working.done():
        sent += await open_loop(running.port, lambda n: requests[n % 4], per_second=PER_SECOND, seconds=2)
    return sent, await working


def _patient() -> AbstractContextManager[Server]:
    """Starts a server that accepts all these requests, however slow the machine is."""
    return server(
        LRID_DECODE_QUEUE_MAX=str(IN_FLIGHT),
        LRID_QUEUE_MAX_SECONDS="1000",
        LRID_REQUEST_TIMEOUT_SECONDS="300",
        LRID_DRAIN_TIMEOUT_SECONDS="300",
    )


def sigterm(load: Load) -> list[Row]:
    """SIGTERM while requests are being answered, and a second one."""
    with _patient() as running:
        replies, seconds, code = asyncio.run(_end_under_load(running, load, twice=False))
    statuses = Counter(reply.status for reply in replies)
    rows = [
        Row(f"SIGTERM with {IN_FLIGHT} requests accepted", f"answers by status {dict(statuses)}; exit code {code} after "
            f"{seconds:.1f} s", "all 200, exit code 0", statuses[200] == IN_FLIGHT and code == 0)
    ]  # fmt: skip
    with _patient() as running:
        _, seconds, code = asyncio.run(_end_under_load(running, load, twice=True))
    rows.append(Row("a second SIGTERM", f"exit code {code} after {seconds:.1f} s", "≤ 5 s, exit code 0",
                    seconds <= 5 and code == 0))  # fmt: skip
    return rows


async def _end_under_load(running: Server, load: Load, *, twice: bool) -> tuple[list[Reply], float, int]:
    """Returns the replies to the requests that were accepted, the seconds until the process ended, and its exit code."""
    async with Connections(running.port) as connections:
        tasks = [asyncio.create_task(connections.exchange(load.clip)) for _ in range(IN_FLIGHT)]

        def accepted() -> bool:
            return running.metric("lrid_in_flight_requests") + sum(task.done() for task in tasks) >= IN_FLIGHT

        await asyncio.to_thread(wait_until, accepted)
        began = time.monotonic()
        running.process.terminate()
        if twice:
            await asyncio.sleep(0.5)
            running.process.terminate()
        code = int(await asyncio.to_thread(running.process.wait, 180) or 0)
        seconds = time.monotonic() - began
        return await asyncio.gather(*tasks), seconds, code
