"""Several releases, several processes, the same answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter

import psutil

from app.settings import Settings
from loadtest.chaos.rows import Bench, Row, in_ms
from loadtest.openloop import Request, Sent, audio_post, json_post, open_loop
from tests.service.faulty import clip
from tests.service.hard import ask_all, children, without_times
from tests.service.live import LiveServer, wait_until

REQUESTS = (
    audio_post(clip(0.3)),
    audio_post(clip(0.4), {"title": "La vie en rose", "artist": "Édith Piaf"}),
    json_post({"title": "Nel blu dipinto di blu"}),
    json_post({"title": "사랑해", "explain": True}),
)
KEY = {"Authorization": "Bearer admin"}


def swap(bench: Bench) -> list[Row]:
    with bench.server(admin_keys="admin", max_batch_size=4) as (live, _):
        known = {}
        for release in ("2", "1"):
            _choose(live, release)
            known[release] = [without_times(reply) for reply in ask_all(live.port, REQUESTS)]

        def back_and_forth() -> int:
            ends_at, n = time.monotonic() + bench.seconds, 0
            while time.monotonic() < ends_at:
                n += 1
                _choose(live, str(1 + n % 2))
            return n

        swaps, sent = asyncio.run(_load_beside(live, back_and_forth))
    failed = sum(one.status != 200 for one in sent)
    answers = [(one, without_times(one.reply)) for one in sent if one.status == 200]
    mixed = sum(answer != known[answer["model"]["release"]][int(one.kind)] for one, answer in answers)
    releases = Counter(answer["model"]["release"] for _, answer in answers)
    return [
        Row(
            f"POST /admin/releases {swaps} times under load",
            f"{failed} failed, {mixed} mixed of {len(sent)} answers ({dict(sorted(releases.items()))} by release); "
            f"{in_ms([one.seconds for one in sent])}",
            "0 failed, 0 mixed",
            failed == 0 and mixed == 0 and len(releases) == 2,
        )
    ]


def _choose(live: LiveServer, release: str) -> None:
    response = live.client.post("/admin/releases", json={"model": f"lrid_net/{release}"}, headers=KEY)
    assert response.status_code == 200, response.text


async def _load_beside(live: LiveServer, work) -> tuple[int, list[Sent]]:  # type: ignore[no-untyped-def]
    working = asyncio.create_task(asyncio.to_thread(work))
    sent: list[Sent] = []
    while not working.done():
        sent += await open_loop(live.port, lambda n: Request(str(n % 4), REQUESTS[n % 4]), per_second=20, seconds=1)
    return await working, sent


def workers(bench: Bench) -> list[Row]:
    n, folder = bench.n_workers, bench.folder
    with LiveServer(folder, model_store=bench.store, model="lrid_net/1", workers=n, decode_workers=1) as live:
        wait_until(lambda: len(children(live, "app.worker")) == n and live.metric("lrid_ready") == 1, live.text_of_log)
        memory_mb = sum(each.memory_full_info().pss for each in [psutil.Process(live.process.pid), *live.children()]) / 1e6
        text = [json_post({"title": "La vie en rose"}, "Connection: close")]
        before = live.metric("lrid_requests_total", outcome="ok")
        asked = Counter(reply.status for reply in ask_all(live.port, text * 400))
        counted = live.metric("lrid_requests_total", outcome="ok") - before
        outcomes, replaced = asyncio.run(_kill_one(live, text[0]))
    failed = sum(count for status, count in outcomes.items() if status != 200)
    return [
        Row(f"{n} processes: metrics are right in sum",
            f"{asked[200]} answered, {counted:.0f} counted; {memory_mb:,.0f} MB in all", "equal",
            counted == asked[200] == 400),
        Row(f"one of {n} processes is killed under load: replaced, the others unharmed",
            f"{failed} of {outcomes.total()} requests failed (those that the dead one held), back after {replaced:.1f} s",
            "≤ 1 % of them", failed <= 0.01 * outcomes.total()),
    ]  # fmt: skip


async def _kill_one(live: LiveServer, request: bytes) -> tuple[Counter[int], float]:
    def starts() -> int:
        return live.text_of_log().count("Application startup complete")

    def kill() -> float:
        time.sleep(1)
        before = starts()
        os.kill(children(live, "app.worker")[0].pid, signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda: starts() > before)
        return time.monotonic() - began

    working = asyncio.create_task(asyncio.to_thread(kill))
    outcomes: Counter[int] = Counter()
    while not working.done():
        sent = await open_loop(live.port, lambda _: Request("text", request), per_second=40, seconds=1)
        outcomes.update(one.status for one in sent)
    return outcomes, await working


def same(bench: Bench) -> list[Row]:
    """The same requests alone, in a crowd, in batches, over several processes and after a restart."""
    tiny = {"model_store": bench.store, "model": "lrid_net/1"}
    variants: dict[str, dict[str, object]] = {
        "batches of 8": {"max_batch_size": 8},
        "batches of 1, one decoder": {"max_batch_size": 1, "decode_workers": 1},
        "2 processes": {"workers": 2, "decode_workers": 1},
    }
    by_default = {"model": Settings().model, "precision": "auto", "torch_threads": 0}
    shipped: dict[str, dict[str, object]] = {  # with all threads of the machine, in the precision that it chooses
        "as it starts by itself": {},
        "restarted": {},
        "one decoder": {"decode_workers": 1},
    }
    return [
        _same(bench, "a tiny release, fp32", tiny, variants, crowd=16),
        _same(bench, "the release that ships", by_default, shipped, crowd=4),
    ]


def _same(bench: Bench, what: str, settings: dict[str, object], variants: dict[str, dict[str, object]], crowd: int) -> Row:
    """`crowd`: how many times each request is sent at once, after it was sent alone."""
    found: dict[str, set[str]] = {}
    n_answers = 0
    for name, variant in variants.items():
        folder = bench.folder / f"{what} {name}".replace(" ", "-").replace(",", "")
        extra = {} if "torch_threads" not in settings else {"OMP_NUM_THREADS": str(os.cpu_count())}
        with LiveServer(folder, extra=extra, **settings, **variant) as live:
            wait_until(lambda live=live: live.ready().status_code == 200 and live.metric("lrid_ready") == 1)
            replies = [ask_all(live.port, [request])[0] for request in REQUESTS] + ask_all(live.port, REQUESTS * crowd)
        assert {reply.status for reply in replies} == {200}
        n_answers += len(replies)
        for number, reply in enumerate(replies):
            found.setdefault(str(number % len(REQUESTS)), set()).add(json.dumps(without_times(reply)))
    different = {request: len(answers) for request, answers in found.items() if len(answers) != 1}
    return Row(
        f"the same request gives the same bytes ({what}: {', '.join(variants)}; alone and {crowd * len(REQUESTS)} at once)",
        f"{len(REQUESTS)} requests, {n_answers} answers, {sum(different.values()) if different else 0} that differ",
        "0",
        not different,
    )
