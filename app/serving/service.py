"""The life of the server behind the port: loading, serving, draining."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager

from app.audio.pool import DecodePool
from app.errors import Draining, LridError, NotReady, SwapInProgress
from app.serving.board import ReleaseBoard
from app.serving.health import Health
from app.serving.identifier import Identifier
from app.serving.memory import release_memory, trim

log = logging.getLogger("lrid.service")

RETRY_WHILE_LOADING_SECONDS = 3.0
LETTING_GO_SECONDS = 1.0  # until the threads of a replaced release have ended; before that its memory is not free
LETTING_GO_TRIES = 10  # then somebody holds it, and the log says so
TRIM_SECONDS = 60.0


class Service:
    """Owns what must be started and stopped. `build` makes the identifier of a release, its batcher running."""

    def __init__(
        self,
        health: Health,
        pool: DecodePool,
        build: Callable[[str], Awaitable[Identifier]],
        model: str,
        board: ReleaseBoard | None = None,
    ) -> None:
        """`model` is the release to serve first, as the settings name it; what is on the board goes before it."""
        self.health = health
        self._pool = pool
        self._build = build
        self._model = model
        self._board = board or ReleaseBoard()
        self._identifier: Identifier | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._swapping = False
        self._refusing = False

    def start(self) -> asyncio.Task[None]:
        """Begin to load in the background. The task ends when that is over, for better or worse."""
        self._in_background(_trim_now_and_then())
        return self._in_background(self._load())

    def leave(self) -> None:
        """From now on readiness is false, so that balancers look elsewhere; what comes nevertheless is answered."""
        self.health.set_draining()

    def drain(self) -> None:
        """From now on nothing new is accepted; what was accepted is finished."""
        self.leave()
        self._refusing = True

    async def stop(self) -> None:
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._identifier is not None:
            await self._identifier.stop()
        await asyncio.to_thread(self._pool.close)

    @contextmanager
    def lease(self) -> Iterator[Identifier]:
        """The identifier that serves a new request, to its end. Raises Draining or NotReady."""
        identifier = self._current()
        identifier.leases += 1
        try:
            yield identifier
        finally:
            identifier.leases -= 1
            identifier.returned.set()

    def _current(self) -> Identifier:
        if self._refusing:
            raise Draining("no new requests are accepted", retry_after_seconds=1.0)
        if self._identifier is None:
            reason = self.health.status().reason or "the model is loading"
            raise NotReady(reason, retry_after_seconds=RETRY_WHILE_LOADING_SECONDS)
        if not self._identifier.healthy:
            raise NotReady("the device is being restarted", retry_after_seconds=RETRY_WHILE_LOADING_SECONDS)
        return self._identifier

    @property
    def loaded(self) -> Identifier | None:
        """The identifier whatever the state, for pages that only describe."""
        return self._identifier

    # --- swapping releases --------------------------------------------------------------------------------------------

    async def swap(self, model: str) -> Identifier:
        """Load another release beside the one that serves, prove it, then let new requests go to it.

        Requests that began with the old release end with it. Raises ReleaseError (the old one goes on), SwapInProgress.
        """
        if self._swapping or self._identifier is None:
            raise SwapInProgress("a release is being loaded already")
        self._swapping = True
        try:
            old, self._identifier = self._identifier, await self._build(model)
        finally:
            self._swapping = False
        self._model = model
        log.info("now serving another release", extra={"fields": {"model": model}})
        self._in_background(_retire(old))
        return self._identifier

    async def swap_everywhere(self, model: str) -> Identifier:
        """`swap`, then have the other processes of this service do the same."""
        identifier = await self.swap(model)
        self._board.write(_reference(identifier))
        return identifier

    def reload(self) -> None:
        """SIGHUP: resolve the name of the release again (a family's newest may be another now) and swap to it."""
        self._in_background(self._reload())

    async def _reload(self) -> None:
        model = self._board.read() or self._model
        if self._identifier is not None and model == _reference(self._identifier):
            return  # releases never change
        try:
            await self.swap(model)
        except LridError as error:
            log.error("reload refused, the old release goes on: %s", error.detail)
        except Exception:
            log.exception("reload failed, the old release goes on")

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self._pool.start)
            self._identifier = await self._build(self._board.read() or self._model)
        except LridError as error:
            log.error("the release cannot be served: %s", error.detail)
            self.health.set_failed(error.detail)
        except Exception:
            log.exception("loading failed")
            self.health.set_failed("loading failed; the log says why")
        else:
            self.health.add_check("batcher", lambda: self._identifier is not None and self._identifier.healthy)
            self.health.add_check("decoders", lambda: self._pool.healthy)
            if self._board.shared:
                self._board.take_seat()
                self.health.add_check("all_processes", lambda: self._board.complete)
            self.health.set_ready()

    def _in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _reference(identifier: Identifier) -> str:
    manifest = identifier.model.manifest
    return f"{manifest.family}/{manifest.release}"


async def _trim_now_and_then() -> None:
    """What fragments stays bounded, and a server that has nothing to do any more is small again."""
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        await asyncio.to_thread(trim)


async def _retire(old: Identifier) -> None:
    """Stop a replaced identifier once its last request is answered."""
    while old.leases:
        old.returned.clear()
        await old.returned.wait()
    await old.stop()
    held = weakref.ref(old)
    del old
    for _ in range(LETTING_GO_TRIES):
        await asyncio.sleep(LETTING_GO_SECONDS)
        await asyncio.to_thread(release_memory)
        if held() is None:
            return
    log.error("a replaced release is still in memory after %g s", LETTING_GO_TRIES * LETTING_GO_SECONDS)
