"""A server that leaves says so first, and goes on answering until balancers have looked away: nothing is lost."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.service.balancer import Balancer
from tests.service.faulty import clip
from tests.service.live import LiveServer, wait_until
from tests.service.openloop import audio_post, json_post, open_loop

GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
DELAY_SECONDS = 2.0


def test_not_ready_but_answering(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, drain_delay_seconds=DELAY_SECONDS) as live:
        live.wait_until_ready()
        live.terminate()
        began = time.monotonic()
        wait_until(lambda: live.ready().status_code == 503)
        assert live.ready().json()["status"] == "draining"
        with live.new_client() as client:  # a new connection
            response = client.post("/identify", json=GOOD)
        assert response.status_code == 200
        assert response.headers["connection"] == "close"  # so that the next request goes elsewhere
        assert live.exit_code() == 0
        assert time.monotonic() - began >= DELAY_SECONDS


def test_a_second_sigterm_cuts_the_delay(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, drain_delay_seconds=300) as live:
        live.wait_until_ready()
        live.terminate()
        wait_until(lambda: live.ready().status_code == 503)
        live.terminate()
        assert live.process.wait(30) == 0


def _started(stack: contextlib.ExitStack, make: Callable[[], LiveServer]) -> LiveServer:
    return stack.enter_context(make()).wait_until_ready()


def test_rolling_restart_behind_a_balancer(tiny_store: Path, tmp_path: Path) -> None:
    """Both of two servers are replaced while requests keep coming: not one fails."""

    def server(name: str) -> LiveServer:
        return LiveServer(tmp_path / name, model_store=tiny_store, drain_delay_seconds=DELAY_SECONDS)

    async def run(stack: contextlib.ExitStack) -> Counter[int]:
        first = [stack.enter_context(server(f"old-{i}")).wait_until_ready() for i in range(2)]
        async with Balancer([live.port for live in first]) as balancer:
            requests = [audio_post(clip(0.3), None, "Connection: close"), *[json_post(GOOD, "Connection: close")] * 4]
            ends = asyncio.Event()

            async def load() -> list[int]:
                statuses: list[int] = []
                while not ends.is_set():
                    sent = await open_loop(balancer.port, lambda n: requests[n % 5], per_second=10, seconds=1)
                    statuses += [one.status for one in sent]
                return statuses

            loading = asyncio.create_task(load())
            for i, old in enumerate(first):
                new = await asyncio.to_thread(_started, stack, partial(server, f"new-{i}"))
                balancer.add(new.port)
                old.terminate()
                assert await asyncio.to_thread(old.exit_code) == 0
                balancer.remove(old.port)
            await asyncio.sleep(1)
            ends.set()
            return Counter(await loading)

    with contextlib.ExitStack() as stack:
        outcomes = asyncio.run(run(stack))
    assert set(outcomes) == {200}
    assert outcomes[200] >= 30
