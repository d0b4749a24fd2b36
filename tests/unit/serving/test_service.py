"""Readiness is a fact about the parts."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from app.audio.pool import DecodePool
from app.errors import ReleaseError
from app.serving.identifier import Identifier
from app.serving.service import Service


@dataclass
class Part:
    """In place of the decoders, or of an identifier."""

    healthy: bool = True

    def start(self) -> None: ...

    def close(self) -> None: ...

    async def stop(self) -> None: ...


def phase(service: Service) -> tuple[str, bool, str | None]:
    status = service.status()
    return status.phase, status.ready, status.reason


def service_of(decoders: Part, identifier: Part | ReleaseError) -> Service:
    async def build(_: str) -> Identifier:
        if isinstance(identifier, ReleaseError):
            raise identifier
        return cast(Identifier, identifier)

    return Service(cast(DecodePool, decoders), build, "family/1")


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_from_starting_to_draining_and_ready_only_while_every_part_is() -> None:
    decoders, identifier = Part(), Part()

    async def scenario() -> None:
        service = service_of(decoders, identifier)
        assert phase(service) == ("starting", False, "the model is loading")
        assert service.status().checks == {}
        service.start()
        await service.loaded_once()
        assert phase(service) == ("ready", True, None)
        identifier.healthy = False
        assert phase(service) == ("ready", False, "being started or restarted: batcher")
        assert service.status().checks == {"batcher": False, "decoders": True}
        identifier.healthy, decoders.healthy = True, False
        assert phase(service) == ("ready", False, "being started or restarted: decoders")
        decoders.healthy = True
        assert service.status().ready
        service.leave()
        assert phase(service) == ("draining", False, "the server is shutting down")
        with service.lease():
            await service.stop()

    run(scenario)


def test_a_failure_to_load_stays_until_the_server_is_shut_down() -> None:
    async def scenario() -> None:
        service = service_of(Part(), ReleaseError("wrong hash"))
        service.start()
        for _ in range(2):
            with pytest.raises(ReleaseError, match="wrong hash"):
                await service.loaded_once()
            assert phase(service) == ("failed", False, "wrong hash")
        service.leave()
        assert phase(service)[:2] == ("draining", False)
        await service.stop()

    run(scenario)


def test_loading_that_ends_after_the_signal_changes_nothing() -> None:
    async def scenario() -> None:
        service = service_of(Part(), Part())
        service.start()
        service.leave()
        await service.loaded_once()
        assert phase(service) == ("draining", False, "the server is shutting down")
        await service.stop()

    run(scenario)
