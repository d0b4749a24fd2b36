"""The life of the server behind the port: loading, serving, swapping releases, draining."""

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from app.audio.pool import DecodePool
from app.errors import Draining, LridError, NotReady, ReleaseError, SwapInProgress
from app.families.contract import Model
from app.serving.identifier import Identifier
from app.serving.memory import leave_files_to_the_page_cache, release_memory, trim

log = logging.getLogger("lrid.service")

RETRY_WHILE_LOADING_SECONDS = 3.0
RELEASE_WAIT_SECONDS = 1.0  # for the threads of a replaced release to end; before that its memory is not free
RELEASE_TRIES = 10  # after that, a reference to it has leaked, and an error is logged
TRIM_SECONDS = 60.0

Phase = Literal["starting", "ready", "draining", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
    """Whether the server should get traffic at one moment, and if not, why."""

    phase: Phase
    reason: str | None
    checks: dict[str, bool]
    uptime_seconds: float

    @property
    def ready(self) -> bool:
        return self.reason is None


class ServedRelease:
    """The identifier of one release, and the number of requests that use it."""

    def __init__(self, identifier: Identifier) -> None:
        self.identifier = identifier
        self._leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def __enter__(self) -> Identifier:
        """Keep the identifier running until the block ends."""
        self._leases += 1
        self._unused.clear()
        return self.identifier

    def __exit__(self, *_: object) -> None:
        self._leases -= 1
        if not self._leases:
            self._unused.set()

    async def retire(self) -> None:
        """Stop the identifier once its last request is answered."""
        await self._unused.wait()
        await self.identifier.stop()


class Service:
    """Owns what must be started and stopped."""

    def __init__(self, pool: DecodePool, build: Callable[[str], Awaitable[Identifier]], model: str) -> None:
        """`build` makes the running identifier of a release; `model` names the release to serve first."""
        self.leaving = False  # the server shuts down
        self._pool = pool
        self._build = build
        self._model = model
        self._served: ServedRelease | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        self._swapping = False
        self._refusing = False
        self._failure = ""  # why the first release cannot be served, until the process is restarted
        self._started = time.monotonic()

    def start(self) -> None:
        """Begin to load in the background."""
        self._in_background(_trim_regularly())
        self._loading = self._in_background(self._load())

    async def loaded_once(self) -> None:
        """Wait until the first release is loaded. Raises ReleaseError."""
        if self._loading is not None:
            await asyncio.wait({self._loading})
        if self._served is None:
            raise ReleaseError(self.status().reason or "not started")

    def status(self) -> Status:
        """`starting` until golden.json was replayed; then `ready` as long as every check holds; `draining` after SIGTERM."""
        checks = {}
        if self._served is not None:
            checks = {"batcher": self._served.identifier.healthy, "decoders": self._pool.healthy}
        phase, reason = self._phase([name for name, holds in checks.items() if not holds])
        return Status(phase, reason, checks, time.monotonic() - self._started)

    def _phase(self, broken: list[str]) -> tuple[Phase, str | None]:
        """And why the server should get no traffic."""
        if self.leaving:
            return "draining", "the server is shutting down"
        if self._failure:
            return "failed", self._failure
        if self._served is None:
            return "starting", "the model is loading"
        return "ready", f"being started or restarted: {', '.join(broken)}" if broken else None

    def leave(self) -> None:
        """Turn readiness off, so that balancers send traffic elsewhere. Requests are still answered."""
        self.leaving = True

    def drain(self) -> None:
        """Reject new requests; finish those that were accepted."""
        self.leave()
        self._refusing = True

    async def stop(self) -> None:
        """Drain, and stop everything that was started."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._served is not None:
            await self._served.identifier.stop()
        await asyncio.to_thread(self._pool.close)

    def lease(self) -> AbstractContextManager[Identifier]:
        """The identifier that serves a new request to its end. Raises Draining or NotReady."""
        if self._refusing:
            raise Draining("no new requests are accepted", retry_after_seconds=1.0)
        if self._served is None:
            raise NotReady(self.status().reason or "the model is loading", retry_after_seconds=RETRY_WHILE_LOADING_SECONDS)
        if not self._served.identifier.healthy:
            raise NotReady("the device is being restarted", retry_after_seconds=RETRY_WHILE_LOADING_SECONDS)
        return self._served

    @property
    def loaded(self) -> Identifier | None:
        """The current identifier in any state, for pages that only describe it."""
        return None if self._served is None else self._served.identifier

    @property
    def model(self) -> Model:
        """That of `loaded`. Raises NotReady."""
        if self.loaded is None:
            raise NotReady("the model is loading", retry_after_seconds=RETRY_WHILE_LOADING_SECONDS)
        return self.loaded.model

    @property
    def reference(self) -> str | None:
        """`family/release` that is served."""
        if self.loaded is None:
            return None
        manifest = self.loaded.model.manifest
        return f"{manifest.family}/{manifest.release}"

    async def swap(self, model: str) -> Identifier:
        """Load another release, prove it, then switch to it. Raises ReleaseError (the old stays) or SwapInProgress."""
        if self._swapping or self._served is None:
            raise SwapInProgress("a release is being loaded already")
        self._swapping = True
        try:
            old, self._served = self._served, ServedRelease(await self._build(model))
        finally:
            self._swapping = False
        self._model = model
        log.info("now serving another release", extra={"fields": {"model": model}})
        self._in_background(_retire(old))
        return self._served.identifier

    def reload(self) -> None:
        """SIGHUP: resolve the name of the release again (a family may have a newer one now) and swap to it."""
        self._in_background(self._reload())

    async def _reload(self) -> None:
        if self._model == self.reference:
            return  # releases never change
        try:
            await self.swap(self._model)
        except LridError as error:
            log.error("reload rejected, the old release stays: %s", error.detail)
        except Exception:
            log.exception("reload failed, the old release stays")

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self._pool.start)
            identifier = await self._build(self._model)
            await asyncio.to_thread(leave_files_to_the_page_cache)
            self._served = ServedRelease(identifier)
        except LridError as error:
            log.error("the release cannot be served: %s", error.detail)
            self._failure = error.detail
        except Exception:
            log.exception("loading failed")
            self._failure = "loading failed; the log says why"

    def _in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _trim_regularly() -> None:
    """Bound memory fragmentation, and shrink an idle server."""
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        await asyncio.to_thread(trim)


async def _retire(old: ServedRelease) -> None:
    """Stop a replaced release and check that its memory is freed."""
    await old.retire()
    held = weakref.ref(old.identifier)
    del old
    for _ in range(RELEASE_TRIES):
        await asyncio.sleep(RELEASE_WAIT_SECONDS)
        await asyncio.to_thread(release_memory)
        if held() is None:
            return
    log.error("a replaced release is still in memory after %g s", RELEASE_TRIES * RELEASE_WAIT_SECONDS)
