"""POST /identify: one track, its answer as JSON; and the short way there."""

from collections.abc import Awaitable, Callable, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import LridError
from app.http.answering import Answering
from app.http.body import BodyReader
from app.http.gate import AudioGate
from app.http.options import IdentifyRequest
from app.http.problem import on_lrid_error
from app.serving.scheduling import yield_to_others

Endpoint = Callable[[Request], Awaitable[Response]]


def identify_endpoint(answering: Answering, body: BodyReader) -> Endpoint:
    """Handles POST /identify."""

    async def identify(request: Request) -> Response:
        async def read(gate: AudioGate) -> Sequence[IdentifyRequest]:
            return (await body.read(request, gate),)

        (answer,) = await answering.answers(request, read, written=True)
        await yield_to_others()  # before the answer is sent
        return Response(orjson.dumps(answer), media_type="application/json")

    return identify


class Shortcut:
    """Answers POST `path` by `endpoint`: the router, whose route stays for OpenAPI and `root_path`, is slow."""

    def __init__(self, app: ASGIApp, path: str, endpoint: Endpoint) -> None:
        self.app = app
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != self._path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        scope["lrid.route"] = self._path
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except LridError as error:
            response = on_lrid_error(request, error)
        await response(scope, receive, send)
