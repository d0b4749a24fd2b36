"""What every protocol does: lease a release, set the deadline, admit audio, identify, count; stop if the client leaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from app.domain import Stage, Track
from app.errors import ClientGone, DeadlineExceeded, InvalidOption, LridError
from app.families.tasks import Json
from app.http.answer import build_response, view_of
from app.http.gate import AudioGate, UploadAccount
from app.http.options import IdentifyRequest
from app.http.traces import note
from app.serving.identifier import Identifier
from app.serving.metrics import Metrics
from app.serving.service import Service
from app.settings import MEGABYTE, Settings

T = TypeVar("T")
CLIENT_LEFT = "the client left"  # the message of a cancellation for that reason
ReadTracks = Callable[[AudioGate], Awaitable[Sequence[IdentifyRequest]]]


class Answering:
    """Collaborators of all that identifies."""

    def __init__(self, service: Service, settings: Settings, metrics: Metrics) -> None:
        self.service = service
        self.metrics = metrics
        self._uploads = UploadAccount(int(settings.uploads_max_mb * MEGABYTE), metrics)
        self._settings = settings

    async def answers(self, request: Request, read: ReadTracks, *, written: bool = False) -> list[Json]:
        """Answers of the tracks that `read` finds, in order; the first error ends all. `written`: see `View`."""
        self.metrics.in_flight.inc()
        try:
            with self.counted("none", failures_only=True):
                lease, deadline = self.service.lease(), self.deadline(request)
            with lease as identifier, AudioGate(identifier, self._uploads, deadline) as gate:
                with self.counted("none", failures_only=True):
                    asked = await _uploaded(request, read(gate), deadline)
                work = together([self.answer(identifier, one, deadline, request, written=written) for one in asked])
                if all(one.track.audio is None for one in asked):
                    return await work  # over at once: not worth watching whether the client leaves
                return await unless_client_leaves(request.receive, work)
        finally:
            self.metrics.in_flight.dec()

    async def answer(
        self, identifier: Identifier, asked: IdentifyRequest, deadline: float, request: Request, *, written: bool = False
    ) -> Json:
        """One track's answer; counted whatever happens."""
        with self.counted(_modalities(asked.track)):
            model = identifier.model
            model.task.check(view_of(asked.options))
            if (asked.options.windows or 0) > (most := self._settings.max_windows):
                raise InvalidOption(f"windows: at most {most} are listened to, got {asked.options.windows}")
            stages: list[Stage] = []
            try:
                identified = await identifier.identify(asked.track, asked.options, deadline, stages)
            finally:
                note(request.scope, stages)
            self.metrics.observe_stages(identified.seconds_by_stage, request.scope.get("lrid.trace_id"))
            answer = build_response(identified, written=written)
            self.metrics.count_answer(*model.task.headline(answer))
            return answer

    def deadline(self, request: Request) -> float:
        """Absolute, in the event loop's time; set once, obeyed by every stage."""
        most = self._settings.request_timeout_seconds
        given = request.headers.get("x-request-timeout")
        try:
            seconds = most if given is None else float(given)
        except ValueError:
            raise InvalidOption("X-Request-Timeout: expected seconds, such as 2.5") from None
        if not seconds > 0:
            raise InvalidOption("X-Request-Timeout: expected more than 0 seconds")
        return asyncio.get_running_loop().time() + min(seconds, most)

    def counted(self, modalities: str, *, failures_only: bool = False) -> "Counted":
        """Counts how what is done inside ends."""
        return Counted(self.metrics, modalities, failures_only)


class Counted:
    """Counts a request by how its block ends."""

    __slots__ = ("_failures_only", "_metrics", "_modalities")

    def __init__(self, metrics: Metrics, modalities: str, failures_only: bool) -> None:
        self._metrics = metrics
        self._modalities = modalities
        self._failures_only = failures_only

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None or not self._failures_only:
            self._metrics.count_request(self._modalities, _outcome(error))


def _outcome(error: BaseException | None) -> str:
    if isinstance(error, LridError):
        return error.code
    if isinstance(error, asyncio.CancelledError):
        return ClientGone.code if error.args == (CLIENT_LEFT,) else "cancelled"
    return "ok" if error is None else "internal_error"


async def _uploaded(request: Request, reading: Awaitable[T], deadline: float) -> T:
    """What `reading` gives in time; noted as a stage. Raises ClientGone, DeadlineExceeded."""
    started, failed = time.perf_counter(), True
    try:
        async with asyncio.timeout_at(deadline):
            read = await reading
        failed = False
        return read
    except ClientDisconnect:
        raise ClientGone("the upload was cut off") from None
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed during the upload") from None
    finally:
        note(request.scope, (Stage("upload", started, time.perf_counter() - started, failed),))


async def together(work: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """Run all at once; the first error ends the others."""
    if len(work) == 1:
        return [await work[0]]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unless_client_leaves(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """Run `work`; cancel it and raise ClientGone when the client hangs up first."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_until_disconnect(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel(CLIENT_LEFT)
        raise ClientGone("the client left before the answer was ready")
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _modalities(track: Track) -> str:
    text = bool(track.metadata.fields or track.further)
    if track.audio is None:
        return "text" if text else "none"
    return "both" if text else "audio"
