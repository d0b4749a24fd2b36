"""POST /identify: body → identifier → answer, under one deadline, for as long as the client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import closing
from typing import TypeVar

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from app.domain import Track
from app.errors import ClientGone, DeadlineExceeded, InvalidOption, LridError
from app.families.tasks import Json
from app.http.answer import build_response, identify_options, view_of
from app.http.body import BodyReader
from app.http.gate import AudioGate, UploadAccount
from app.http.schemas import IdentifyRequest, Options
from app.serving.identifier import Identifier, IdentifyOptions
from app.serving.metrics import Metrics
from app.serving.scheduling import yield_to_others
from app.serving.service import Service
from app.settings import Settings

T = TypeVar("T")


class IdentifyEndpoint:
    """Collaborators of the one route that matters."""

    def __init__(
        self, service: Service, body: BodyReader, uploads: UploadAccount, settings: Settings, metrics: Metrics
    ) -> None:
        self._service = service
        self._body = body
        self._uploads = uploads
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, request: Request) -> Response:
        """Answer, and count by modalities and outcome whatever happens."""
        modalities, outcome = "none", "ok"
        self._metrics.in_flight.inc()
        try:
            with self._service.lease() as identifier:
                deadline = self._deadline(request)
                with closing(AudioGate(identifier, self._uploads, deadline)) as gate:
                    asked = await self._read(request, gate, deadline)
                    modalities = _modalities(asked.track)
                    answer = await self._identify(request, identifier, asked, deadline)
        except LridError as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception:
            outcome = "internal_error"
            raise
        else:
            self._metrics.count_answer(answer["language"], answer["probability"])
            return Response(to_json(answer), media_type="application/json")
        finally:
            self._metrics.in_flight.dec()
            self._metrics.count_request(modalities, outcome)

    def _deadline(self, request: Request) -> float:
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

    async def _read(self, request: Request, gate: AudioGate, deadline: float) -> IdentifyRequest:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._body.read(request, gate)
        except ClientDisconnect:
            raise ClientGone("the upload was cut off") from None
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed during the upload") from None

    async def _identify(self, request: Request, identifier: Identifier, asked: IdentifyRequest, deadline: float) -> Json:
        model = identifier.model
        model.task.check(view_of(asked.options))
        work = identifier.identify(asked.track, self._options(asked.options, deadline))
        if asked.track.audio is None:
            identified = await work  # over at once: not worth watching whether the client leaves
        else:
            identified = await unless_client_leaves(request.receive, work)
        self._metrics.observe_stages(identified.seconds_by_stage)
        answer = build_response(identified, model, asked.options)
        await yield_to_others()  # the next thing is to send it
        return answer

    def _options(self, options: Options, deadline: float) -> IdentifyOptions:
        most = self._settings.max_windows
        if options.windows is not None and options.windows > most:
            raise InvalidOption(f"windows: at most {most} are listened to, got {options.windows}")
        return identify_options(options, deadline)


async def unless_client_leaves(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """Run `work`; cancel it and raise ClientGone when the client hangs up first."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_until_disconnect(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone("the client left before the answer was ready")
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _modalities(track: Track) -> str:
    if track.audio is None:
        return "text" if track.metadata.fields else "none"
    return "both" if track.metadata.fields else "audio"
