"""The Open Inference Protocol v2 (KServe, Triton), so that its clients can speak to this server: `/v2/…`.

The model is named `lrid`, or as the family that is served; its version is the release. Options are the
request's `parameters`. The same limits, queue and deadlines hold as for POST /identify.
"""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version as version_of

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.domain import METADATA_FIELDS
from app.errors import InvalidTensor, NotFound, UploadTooLarge
from app.families.contract import Model, TextField, further_fields
from app.families.tasks import Json
from app.http import openapi
from app.http.answering import Answering
from app.http.body import BodyReader, json_object
from app.http.encoding import body_chunks
from app.http.gate import AudioGate
from app.http.options import OPTION_NAMES, IdentifyRequest
from app.http.tensors import AUDIO_INPUT, OUTPUTS, InferRequest, infer_request, outputs, tracks

ALIAS = "lrid"
NOT_YET = 400  # the protocol's status for "no"
HEADER_LENGTH = "inference-header-content-length"
MAX_HEADER_BYTES = 1_000_000  # the JSON before binary tensors
SERVER = {"name": "lrid-serve", "version": version_of("lrid-serve"), "extensions": ["binary_tensor_data"]}
_OWN_PARAMETERS = frozenset({"binary_data_output"})


class InferenceProtocol:
    """Answers the routes below."""

    def __init__(self, answering: Answering, body: BodyReader) -> None:
        self._answering = answering
        self._body = body

    def served(self, name: str, release: str) -> Model:
        """`release`: the version that is asked for; "" for any. Raises NotReady, NotFound."""
        model = self._answering.service.model
        manifest = model.manifest
        if name not in {ALIAS, manifest.family} or release not in {"", manifest.release}:
            raise NotFound(f"this model or version is not served; {manifest.family}, version {manifest.release}, is")
        return model

    def metadata(self, name: str, release: str) -> Json:
        model = self.served(name, release)
        texts = [one for one, field in further_fields(model).items() if isinstance(field, TextField)]
        inputs = [{"name": one, "datatype": "BYTES", "shape": [-1]} for one in (AUDIO_INPUT, *METADATA_FIELDS, *texts)]
        shapes = {one: [-1, -1] if one in {"languages", "probabilities"} else [-1] for one in OUTPUTS}
        return {
            "name": name,
            "versions": [model.manifest.release],
            "platform": "lrid_serve",
            "inputs": inputs,
            "outputs": [{"name": one, "datatype": kind, "shape": shapes[one]} for one, kind in OUTPUTS.items()],
        }

    def readiness(self) -> JSONResponse:
        ready = self._answering.service.status().ready
        return JSONResponse({"ready": ready}, 200 if ready else NOT_YET)

    async def infer(self, request: Request, name: str, release: str) -> Response:
        self.served(name, release)
        asked: list[InferRequest] = []

        async def read(gate: AudioGate) -> Sequence[IdentifyRequest]:
            header, binary = await self._read(request, gate)
            asked.append(header)
            return [self._track(header, values) for values in tracks(header, binary)]

        answers = await self._answering.answers(request, read)
        return _response(name, asked[0], answers)

    async def _read(self, request: Request, gate: AudioGate) -> tuple[InferRequest, bytes]:
        """The JSON part and the bytes behind it."""
        length = _header_length(request)
        body, header = bytearray(), None
        async for chunk in body_chunks(request):
            if len(body) + len(chunk) > self._body.max_upload_bytes:
                raise UploadTooLarge(f"the body is larger than {self._body.max_upload_bytes} bytes")
            gate.take(len(chunk))
            body += chunk
            if header is None and length is not None and len(body) >= length:
                header = _opened(infer_request(json_object(bytes(body[:length]))), gate)
        if header is None:
            if length is not None:
                raise InvalidTensor(f"Inference-Header-Content-Length is {length}, the body has {len(body)} bytes")
            length = len(body)
            header = _opened(infer_request(await asyncio.to_thread(json_object, bytes(body))), gate)
        return header, bytes(memoryview(body)[length:])

    def _track(self, header: InferRequest, values: dict[str, bytes]) -> IdentifyRequest:
        if clash := values.keys() & OPTION_NAMES:
            raise InvalidTensor(f"{min(clash)} is a parameter, no tensor")
        audio = values.pop(AUDIO_INPUT, None)
        options = {name: value for name, value in header.parameters.items() if name not in _OWN_PARAMETERS}
        return self._body.request_of({**values, **options}, {}, audio)


def _header_length(request: Request) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 0 < int(given) <= MAX_HEADER_BYTES):
        raise InvalidTensor(f"Inference-Header-Content-Length: expected 1 to {MAX_HEADER_BYTES}, got {given[:20]!r}")
    return int(given)


def _opened(header: InferRequest, gate: AudioGate) -> InferRequest:
    _ = header.wanted  # refused before it is worked on
    if header.has_audio:
        gate.open()
    return header


def _response(name: str, asked: InferRequest, answers: Sequence[Json]) -> Response:
    encoded = [to_json(answer) for answer in answers]
    entries, binary = outputs(answers, encoded, asked.wanted)
    found = {"model_name": name, "model_version": answers[0]["model"]["release"], "outputs": entries}
    if asked.id is not None:
        found["id"] = asked.id
    header = to_json(found)
    if not binary:
        return Response(header, media_type="application/json")
    return Response(
        header + binary, media_type="application/octet-stream", headers={"Inference-Header-Content-Length": str(len(header))}
    )


def build_inference_router(answering: Answering, body: BodyReader) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
    protocol = InferenceProtocol(answering, body)

    @router.get("")
    async def server() -> Json:
        """Name, version and extensions of this server."""
        return SERVER

    @router.get("/health/live")
    async def live() -> Json:
        """200 as long as the process answers."""
        return {"live": True}

    @router.get("/health/ready", responses={NOT_YET: {"description": "Not ready."}})
    async def ready() -> JSONResponse:
        """200 while this server should get traffic; 400 otherwise, as the protocol has it."""
        return protocol.readiness()

    _add_models(router, protocol)
    return router


def _add_models(router: APIRouter, protocol: InferenceProtocol) -> None:
    errors = openapi.inference_errors()

    @router.get("/models/{name}/versions/{release}", responses=errors)
    @router.get("/models/{name}", responses=errors)
    async def metadata(name: str, release: str = "") -> JSONResponse:
        """Inputs and outputs of the model, and of the version if one is named, that is served."""
        return JSONResponse(protocol.metadata(name, release))

    @router.get("/models/{name}/versions/{release}/ready", responses=errors)
    @router.get("/models/{name}/ready", responses=errors)
    async def model_ready(name: str, release: str = "") -> JSONResponse:
        """200 while this model, and the version if one is named, should get traffic."""
        protocol.served(name, release)
        return protocol.readiness()

    @router.post("/models/{name}/versions/{release}/infer", responses=errors, openapi_extra=openapi.infer())
    @router.post("/models/{name}/infer", responses=errors, openapi_extra=openapi.infer())
    async def infer(request: Request, name: str, release: str = "") -> Response:
        """The language of each track: BYTES tensors `audio`, `title`, `album`, `artist`; options as `parameters`."""
        return await protocol.infer(request, name, release)
