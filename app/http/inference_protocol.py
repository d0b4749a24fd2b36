"""The Open Inference Protocol v2 (KServe, Triton), so that its clients can speak to this server: `/v2/…`.

The model is named `lrid`, or as the family that is served; its version is the release. Options are the
request's `parameters`. The same limits, queue and deadlines hold as for POST /identify.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version as version_of
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.domain import METADATA_FIELDS
from app.errors import InvalidTensor, NotFound
from app.families.contract import Model, TextField, further_fields
from app.families.tasks import Json
from app.http import openapi
from app.http.answering import Answering
from app.http.body import BodyReader, json_object
from app.http.gate import AudioGate
from app.http.options import OPTION_NAMES, IdentifyRequest
from app.http.tensors import AUDIO_INPUT, BINARY_OUTPUT, OUTPUTS, PER_CLASS, InferRequest, infer_request, outputs, tracks
from app.serving.service import Service

ALIAS = "lrid"
NOT_YET = 400  # the protocol's status for "no"
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_HEADER_BYTES = 1_000_000  # the JSON before binary tensors
MAX_JSON_VALUES = 256_000  # of JSON alone; 64 MB of `[],` would be 20 million, 3 GB and 15 s in which nothing else runs
SERVER = {"name": "lrid-serve", "version": version_of("lrid-serve"), "extensions": ["binary_tensor_data"]}


def build_inference_router(answering: Answering, body: BodyReader) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])

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
        return _readiness(answering.service)

    async def any_version(name: str) -> Model:
        return _served(answering.service, name)

    async def version(name: str, release: str) -> Model:
        return _served(answering.service, name, release)

    _add_model(router, "/models/{name}", any_version, answering, body)
    _add_model(router, "/models/{name}/versions/{release}", version, answering, body)
    return router


def _add_model(
    router: APIRouter, path: str, served: Callable[..., Awaitable[Model]], answering: Answering, body: BodyReader
) -> None:
    """The routes of a model; `served` finds it by the parameters of `path`."""
    found, errors = Depends(served), openapi.inference_errors()

    @router.get(path, responses=errors)
    async def metadata(name: str, model: Annotated[Model, found]) -> JSONResponse:
        """Inputs and outputs of the model, and of the version if one is named, that is served."""
        return JSONResponse(_metadata(name, model))

    @router.get(f"{path}/ready", responses=errors, dependencies=[found])
    async def model_ready() -> JSONResponse:
        """200 while this model, and the version if one is named, should get traffic."""
        return _readiness(answering.service)

    @router.post(f"{path}/infer", responses=errors, dependencies=[found], openapi_extra=openapi.infer())
    async def infer(request: Request, name: str) -> Response:
        """The language of each track: BYTES tensors `audio`, `title`, `album`, `artist`; options as `parameters`."""
        asked: list[InferRequest] = []

        async def read(gate: AudioGate) -> Sequence[IdentifyRequest]:
            header, binary = await _read(request, body, gate)
            asked.append(header)
            return [_track(body, header, values) for values in tracks(header, binary)]

        answers = await answering.answers(request, read)
        return _response(name, asked[0], answers)


def _served(service: Service, name: str, release: str | None = None) -> Model:
    """`release`: the version that is asked for, if one is. Raises NotReady, NotFound."""
    model = service.model
    manifest = model.manifest
    if name not in {ALIAS, manifest.family} or release not in {None, manifest.release}:
        raise NotFound(f"this model or version is not served; {manifest.family}, version {manifest.release}, is")
    return model


def _metadata(name: str, model: Model) -> Json:
    texts = [one for one, field in further_fields(model).items() if isinstance(field, TextField)]
    shapes = {one: [-1, -1] if one in PER_CLASS else [-1] for one in OUTPUTS}
    return {
        "name": name,
        "versions": [model.manifest.release],
        "platform": "lrid_serve",
        "inputs": [{"name": one, "datatype": "BYTES", "shape": [-1]} for one in (AUDIO_INPUT, *METADATA_FIELDS, *texts)],
        "outputs": [{"name": one, "datatype": kind, "shape": shapes[one]} for one, kind in OUTPUTS.items()],
    }


def _readiness(service: Service) -> JSONResponse:
    ready = service.status().ready
    return JSONResponse({"ready": ready}, 200 if ready else NOT_YET)


async def _read(request: Request, body: BodyReader, gate: AudioGate) -> tuple[InferRequest, bytes]:
    """The JSON part and the bytes behind it."""
    length = _header_length(request)
    sent, header = bytearray(), None
    async for chunk in body.upload(request):
        gate.take(len(chunk))
        sent += chunk
        if header is None and length is not None and len(sent) >= length:
            header = _opened(json_object(bytes(sent[:length])), gate)
    if header is None:
        if length is not None:
            raise InvalidTensor(f"{HEADER_LENGTH} is {length}, the body has {len(sent)} bytes")
        if (values := sum(map(sent.count, (b",", b"[", b"{")))) > MAX_JSON_VALUES:
            raise InvalidTensor(f"at most {MAX_JSON_VALUES} commas and brackets are read, {values} came; send fewer tracks")
        length = len(sent)
        header = _opened(await asyncio.to_thread(json_object, bytes(sent)), gate)
    return header, bytes(memoryview(sent)[length:])


def _track(body: BodyReader, header: InferRequest, values: dict[str, bytes]) -> IdentifyRequest:
    if clash := values.keys() & OPTION_NAMES:
        raise InvalidTensor(f"{min(clash)} is a parameter, no tensor")
    audio = values.pop(AUDIO_INPUT, None)
    options = {name: value for name, value in header.parameters.items() if name != BINARY_OUTPUT}
    return body.request_of({**values, **options}, {}, audio)


def _header_length(request: Request) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 0 < int(given) <= MAX_HEADER_BYTES):
        raise InvalidTensor(f"{HEADER_LENGTH}: expected 1 to {MAX_HEADER_BYTES}, got {given[:20]!r}")
    return int(given)


def _opened(fields: Json, gate: AudioGate) -> InferRequest:
    """Refused before its tensors come, where it can be."""
    header = infer_request(fields)
    if header.has_audio:
        gate.open()
    return header


def _response(name: str, asked: InferRequest, answers: Sequence[Json]) -> Response:
    entries, binary = outputs(answers, asked.wanted)
    found = {"model_name": name, "model_version": answers[0]["model"]["release"], "outputs": entries}
    if asked.id is not None:
        found["id"] = asked.id
    header = to_json(found)
    if not binary:
        return Response(header, media_type="application/json")
    return Response(header + binary, media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(header))})
