"""Several processes on one port: sums are right, a lost one is replaced unnoticed, and all serve the same release."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from loadtest.openloop import json_post
from tests.releases import write_release
from tests.service.hard import ask_all, children, without_times
from tests.service.live import LiveServer, wait_until

WORKERS = 2  # what four would show, two show for half the memory
GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    write_release(store)
    write_release(store, release="2", seed=2)
    return store


@pytest.fixture(scope="module")
def many(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = {"model_store": store, "workers": WORKERS, "admin_keys": "admin", "decode_workers": 1}
    with LiveServer(tmp_path_factory.mktemp("many"), **settings) as live:
        wait_until(lambda: len(processes(live)) == WORKERS and all_ready(live), live.text_of_log)
        yield live


def processes(live: LiveServer) -> list[psutil.Process]:
    return children(live, "app.worker")


def all_ready(live: LiveServer) -> bool:
    """Asks over new connections until each process has had its turn."""
    return all(ask(live, lambda client: client.get("/health/ready")).status_code == 200 for _ in range(12))


def starts(live: LiveServer) -> int:
    """How many processes have opened the port so far."""
    return live.text_of_log().count("Application startup complete")


def ask(live: LiveServer, request: Callable[[httpx.Client], httpx.Response]) -> httpx.Response:
    with live.new_client() as client:
        return request(client)


def identify_many(live: LiveServer, n: int) -> list[dict]:
    replies = ask_all(live.port, [json_post(GOOD)] * n)
    assert [reply.status for reply in replies] == [200] * n
    return [without_times(reply) for reply in replies]


def test_metrics_are_right_in_sum(many: LiveServer) -> None:
    before = many.metric("lrid_requests_total", outcome="ok")
    answers = identify_many(many, 60)
    assert all(answer == answers[0] for answer in answers)  # whichever process gave it
    assert many.metric("lrid_requests_total", outcome="ok") == before + 60
    wait_until(lambda: many.metric("lrid_ready") == 1)
    assert many.metric("lrid_in_flight_requests") == 0


def test_a_killed_process_is_replaced_unnoticed(many: LiveServer) -> None:
    """Not even a 503: the replacement opens the port only when it can serve. Counters survive it."""
    before = many.metric("lrid_requests_total", outcome="ok")
    victim, *others = processes(many)
    started = starts(many)
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: "server process ended" in many.text_of_log())
    answered = 0
    while starts(many) == started:
        identify_many(many, 4)
        answered += 4
        time.sleep(0.05)
    assert answered
    assert len(processes(many)) == WORKERS
    assert all(process.is_running() for process in others)
    identify_many(many, 20)
    assert many.metric("lrid_requests_total", outcome="ok") == before + answered + 20


def test_a_process_that_hangs_costs_its_own_connections_only(many: LiveServer) -> None:
    victim, _ = processes(many)
    victim.suspend()
    try:
        outcomes: Counter[str] = Counter()
        for _ in range(20):
            try:
                with httpx.Client(base_url=many.client.base_url, timeout=1.0) as client:
                    outcomes[str(client.post("/identify", json=GOOD).status_code)] += 1
            except httpx.TimeoutException:
                outcomes["timeout"] += 1
        assert outcomes["200"] >= 5
    finally:
        victim.resume()
    wait_until(lambda: all_ready(many))


def choose(live: LiveServer, release: str) -> None:
    """Through whichever process answers; 409 while it still follows an earlier choice."""

    def chosen() -> bool:
        body, key = {"model": f"lrid_net/{release}"}, {"Authorization": "Bearer admin"}
        response = ask(live, lambda client: client.post("/admin/releases", json=body, headers=key))
        assert response.status_code in (200, 409), response.text
        return response.status_code == 200

    wait_until(chosen)


@pytest.mark.parametrize("way", ["admin", "admin back"])
def test_a_release_chosen_through_one_process_is_served_by_all(many: LiveServer, way: str) -> None:
    release = "1" if way == "admin back" else "2"
    choose(many, release)

    def served() -> set[str]:
        return {answer["model"]["release"] for answer in identify_many(many, 24)}

    wait_until(lambda: served() == {release})
    wait_until(lambda: many.metric("lrid_model_info") == many.metric("lrid_model_info", release=release) == 1)


def test_a_replacement_serves_what_was_chosen(many: LiveServer) -> None:
    choose(many, "2")
    wait_until(lambda: {answer["model"]["release"] for answer in identify_many(many, 24)} == {"2"})
    for victim in processes(many):
        started = starts(many)
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda n=started: starts(many) > n)
    assert {answer["model"]["release"] for answer in identify_many(many, 24)} == {"2"}


def test_ready_only_when_all_have_loaded(store: Path, tmp_path: Path) -> None:
    """Whichever process is asked: what is sent once one of them said that it is ready meets none that is still loading."""
    with LiveServer(tmp_path, model_store=store, workers=WORKERS, decode_workers=1) as live:
        late = wait_until(lambda: len(found := processes(live)) == WORKERS and found)[1]
        late.suspend()  # long before it opens the port
        try:
            health = wait_until(lambda: (body := ask_health(live)) and body["status"] == "ready" and body)
            assert health["checks"] == {"batcher": True, "decoders": True, "all_processes": False}
            assert (health["ready"], health["reason"]) == (False, "being started or restarted: all_processes")
            assert live.ready().status_code == 503
        finally:
            late.resume()
        wait_until(lambda: ask(live, lambda client: client.get("/health/ready")).status_code == 200)
        assert len(identify_many(live, 30)) == 30
        assert all_ready(live)


def ask_health(live: LiveServer) -> dict:
    return ask(live, lambda client: client.get("/health/ready")).json()


def test_a_rate_limit_is_of_all_processes_together(store: Path, tmp_path: Path) -> None:
    settings = {"workers": WORKERS, "decode_workers": 1, "api_keys": "one,other", "requests_per_minute": 12}
    with LiveServer(tmp_path, model_store=store, **settings) as live:
        wait_until(lambda: len(processes(live)) == WORKERS and all_ready(live), live.text_of_log)
        asked = ask_all(live.port, [json_post(GOOD, "X-API-Key: one", "Connection: close")] * 30)
        statuses = Counter(reply.status for reply in asked)
        assert set(statuses) == {200, 429}
        assert 12 <= statuses[200] <= 18  # while they are asked some time passes
        assert ask_all(live.port, [json_post(GOOD, "X-API-Key: other")])[0].status == 200


def test_sigterm_ends_them_all(many: LiveServer) -> None:
    family = psutil.Process(many.process.pid).children(recursive=True)
    assert len(family) >= 2 * WORKERS  # processes and their decoders
    assert ask_all(many.port, [json_post(GOOD)])[0].status == 200
    many.terminate()
    assert many.exit_code() == 0
    wait_until(lambda: not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], seconds=10)
