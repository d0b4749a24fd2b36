"""The life of the server behind the port: loading, serving, draining."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.audio.pool import DecodePool
from app.errors import Draining, LridError, NotReady
from app.serving.health import Health
from app.serving.identifier import Identifier

log = logging.getLogger("lrid.service")

RETRY_WHILE_LOADING_SECONDS = 3.0


class Service:
    """Owns what must be started and stopped. `build` makes the identifier, its batcher running."""

    def __init__(self, health: Health, pool: DecodePool, build: Callable[[], Awaitable[Identifier]]) -> None:
        self.health = health
        self._pool = pool
        self._build = build
        self._identifier: Identifier | None = None
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to load in the background: the port is open meanwhile."""
        self._loading = asyncio.create_task(self._load(), name="load")

    def drain(self) -> None:
        """From now on nothing new is accepted; what was accepted is finished."""
        self.health.set_draining()

    async def stop(self) -> None:
        self.drain()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._identifier is not None:
            await self._identifier.batcher.stop()
        await asyncio.to_thread(self._pool.close)

    @property
    def identifier(self) -> Identifier:
        """Raises Draining or NotReady."""
        if self.health.draining:
            raise Draining("no new requests are accepted", retry_after_seconds=1.0)
        if self._identifier is None:
            reason = self.health.status().reason or "the model is loading"
            raise NotReady(reason, retry_after_seconds=RETRY_WHILE_LOADING_SECONDS)
        if not self._identifier.batcher.healthy:
            raise NotReady("the device is being restarted", retry_after_seconds=RETRY_WHILE_LOADING_SECONDS)
        return self._identifier

    @property
    def loaded(self) -> Identifier | None:
        """The identifier whatever the state, for pages that only describe."""
        return self._identifier

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self._pool.start)
            self._identifier = identifier = await self._build()
        except LridError as error:
            log.error("the release cannot be served: %s", error.detail)
            self.health.set_failed(error.detail)
        except Exception:
            log.exception("loading failed")
            self.health.set_failed("loading failed; the log says why")
        else:
            self.health.add_check("batcher", lambda: identifier.batcher.healthy)
            self.health.add_check("decoders", lambda: self._pool.healthy)
            self.health.set_ready()
