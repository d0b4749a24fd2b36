"""POST /identify: one track, its answer as JSON; and the front of the application, which is the short way there."""

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

PATH = "/identify"
Endpoint = Callable[[Request], Awaitable[Response]]
Check = Callable[[Scope], None]  # raises LridError


def identify_endpoint(answering: Answering, body: BodyReader) -> Endpoint:
    async def identify(request: Request) -> Response:
        """The probability of each language a track may be sung in, from its audio, its metadata, or both."""

        async def read(gate: AudioGate) -> Sequence[IdentifyRequest]:
            return (await body.read(request, gate),)

        (answer,) = await answering.answers(request, read, written=True)
        await yield_to_others()  # before the answer is sent
        return Response(orjson.dumps(answer), media_type="application/json")

    return identify


class Front:
    """Refuses what `checks` refuse, and answers POST /identify past the router, which is slow.

    The router has that route too, for OpenAPI and for where there is a `root_path`.
    """

    def __init__(self, app: ASGIApp, endpoint: Endpoint, checks: Sequence[Check] = ()) -> None:
        self.app = app
        self._endpoint = endpoint
        self._checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer = self.app
        try:
            for check in self._checks:
                check(scope)
            if scope["path"] == PATH and scope["method"] == "POST":
                scope["lrid.route"] = PATH
                answer = await self._endpoint(request)
        except LridError as error:
            answer = on_lrid_error(request, error)
        await answer(scope, receive, send)
