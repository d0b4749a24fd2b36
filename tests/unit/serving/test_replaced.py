"""A replaced release is let go: nothing that happened while it served may hold it, and its memory with it."""

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.serving import service as module
from app.serving.identifier import Identifier
from app.settings import Settings
from tests import audio_samples
from tests.releases import write_release

PATIENCE_SECONDS = 60.0
N_CLIENTS = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    for number in (1, 2):
        write_release(store, release=str(number), seed=number)
    return store


@pytest.fixture(autouse=True)
def _looks_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the service does, at shorter intervals."""
    monkeypatch.setattr(module, "RELEASE_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(module, "RELEASE_TRIES", 50)


def settings_for(store: Path) -> Settings:
    limits: dict[str, Any] = {"queue_max_items": 16, "max_windows": 8, "torch_threads": 2, "engine": "torch"}
    return Settings(model_store=store, model="lrid_net/1", device="cpu", precision="fp32", **limits)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - the collector sets no event
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(app: FastAPI):  # type: ignore[no-untyped-def]
    """Ready, and a client of it."""
    async with app.router.lifespan_context(app):
        await until(lambda: app.state.service.loaded is not None)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=PATIENCE_SECONDS) as client:
            yield client


async def everything_that_happens(client: httpx.AsyncClient, statuses: list[int], ended: asyncio.Event) -> None:
    """Songs, names, refusals of all kinds, deadlines that pass, and a client that leaves."""
    tone = audio_samples.wav(audio_samples.tone(1.0, 440.0, 22_050, 1, 0.3), "FLOAT", 22_050)
    song = audio_samples.wav(audio_samples.song(40.0, 22_050, channels=1), rate_hz=22_050)
    requests = (
        {"files": {"audio": song}},
        {"files": {"audio": tone}, "data": {"title": "La vie en rose"}},
        {"json": {"title": "La vie en rose"}},
        {"json": {"title": "12345"}},
        {"files": {"audio": b"no audio at all"}},
        {"files": {"audio": song}, "headers": {"X-Request-Timeout": "0.02"}},
    )
    while not ended.is_set():
        for request in requests:
            statuses.append((await client.post("/identify", **request)).status_code)
            await asyncio.sleep(0.05)  # the others' turn
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.post("/identify", files={"audio": song})


async def gone(held: list[weakref.ref[object]]) -> None:
    """Nobody here collects garbage or drops anything: it is the service's to do."""
    await until(lambda: all(each() is None for each in held))


def refer_to(identifier: Identifier) -> list[weakref.ref[object]]:
    """To it, its network, and what it listens with."""
    assert identifier.batcher is not None
    engine: Any = getattr(identifier.batcher._listen, "__self__")  # noqa: B009
    return [weakref.ref(each) for each in (identifier, identifier.model, engine, engine._listen, identifier.batcher)]


def own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(("lrid-device", "lrid-model"))}


def test_replaced_under_load(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(settings_for(store))
    others = own_threads()

    async def run() -> list[int]:
        statuses: list[int] = []
        async with asyncio.timeout(3 * PATIENCE_SECONDS), serving(app) as client:
            ended = asyncio.Event()
            load = [asyncio.create_task(everything_that_happens(client, statuses, ended)) for _ in range(N_CLIENTS)]
            for release in ("2", "1", "2"):
                await asyncio.sleep(0.5)
                held = refer_to(app.state.service.loaded)
                await app.state.service.swap(f"lrid_net/{release}")
                await gone(held)  # while the load goes on
            ended.set()
            await asyncio.gather(*load)
            await until(lambda: len(own_threads() - others) <= 3)  # the device's and two of the pool
        return statuses

    with caplog.at_level(logging.WARNING, "lrid.service"):
        statuses = asyncio.run(run())
    assert {200, 422} <= set(statuses)
    assert not [record for record in caplog.records if record.name == "lrid.service"]


def test_a_request_in_flight_holds_it_and_its_end_lets_it_go(store: Path) -> None:
    app = create_app(settings_for(store))

    async def run() -> None:
        async with serving(app):
            service = app.state.service
            held = refer_to(service.loaded)
            with service.lease():
                await service.swap("lrid_net/2")
                await asyncio.sleep(1.5 * module.RELEASE_WAIT_SECONDS)
                assert all(each() is not None for each in held)
            await gone(held)

    asyncio.run(run())


def test_a_leaked_reference_is_logged(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELEASE_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(module, "RELEASE_TRIES", 3)
    app = create_app(settings_for(store))

    async def run() -> None:
        async with serving(app):
            holder = app.state.service.loaded
            await app.state.service.swap("lrid_net/2")
            ends_at = time.monotonic() + PATIENCE_SECONDS
            while "still in memory" not in caplog.text:
                assert time.monotonic() < ends_at
                await asyncio.sleep(0.05)
            assert holder is not app.state.service.loaded

    with caplog.at_level(logging.WARNING, "lrid.service"):
        asyncio.run(run())
