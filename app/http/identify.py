"""POST /identify: one track, its answer as JSON."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.http.answering import Answering
from app.http.body import BodyReader
from app.http.gate import AudioGate
from app.http.options import IdentifyRequest
from app.serving.scheduling import yield_to_others


class IdentifyEndpoint:
    """Handles POST /identify."""

    def __init__(self, answering: Answering, body: BodyReader) -> None:
        self._answering = answering
        self._body = body

    async def __call__(self, request: Request) -> Response:
        async def read(gate: AudioGate) -> Sequence[IdentifyRequest]:
            return (await self._body.read(request, gate),)

        (answer,) = await self._answering.answers(request, read)
        await yield_to_others()  # before the answer is sent
        return Response(orjson.dumps(answer), media_type="application/json")
