"""Completes the OpenAPI document: bodies, options, keys, examples and errors, which FastAPI cannot infer."""

from functools import cache, partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.domain import LYRICS, METADATA_FIELDS
from app.errors import ClientGone, LridError, MethodNotAllowed, NotFound, public_errors
from app.families.tasks import Json
from app.http.options import Options
from app.http.problem import MEDIA_TYPE
from app.http.schemas import Problem

EXAMPLE: Json = {"title": "Tous les garçons et les filles", "artist": "Françoise Hardy"}
OPTIONS: Json = Options.model_json_schema()["properties"]
_NOT_LISTED = (NotFound, MethodNotAllowed, ClientGone)  # of every operation, or of none that is answered
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, as `Authorization: Bearer KEY`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in a header of its own."},
}
_DEADLINE = {
    "name": "X-Request-Timeout",
    "in": "header",
    "description": "Deadline in seconds, for everything together; 504 when it passes.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "example": 10,
}


def _errors() -> dict[str, type[LridError]]:
    """Those of the service, by code; those of the command line have the same base."""
    return {code: error for code, error in sorted(public_errors().items()) if error.__module__ == LridError.__module__}


def problems(*also: type[LridError]) -> dict[int | str, dict[str, Any]]:
    """Every error status with its codes, and those of `also`, which few operations have."""
    by_status: dict[int, list[str]] = {}
    for error in _errors().values():
        if error in also or not issubclass(error, _NOT_LISTED):
            by_status.setdefault(error.status, []).append(error.code)
    return {
        status: {
            "description": "Codes: " + ", ".join(codes),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, codes in sorted(by_status.items())
    }


def text_fields() -> Json:
    found: Json = {name: {"type": "string", "description": f"The track's {name}."} for name in METADATA_FIELDS}
    return found | {LYRICS: {"type": "string", "description": "What is sung, where the release reads lyrics."}}


def binary(description: str) -> Json:
    return {"type": "string", "format": "binary", "description": description}


def body(content: Json) -> Json:
    """A request body: what `media` makes, by media type."""
    return {"required": True, "content": content}


def media(properties: Json, required: tuple[str, ...] = (), **examples: object) -> Json:
    """One media type of a body whose schema is an object."""
    schema: Json = {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})
    return {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}


def identify() -> Json:
    """Describe POST /identify: both forms of the body, and the options in the query."""
    audio = {"audio": binary("An audio file; its bytes decide what it is, not its name or type.")}
    form = media(audio | text_fields() | OPTIONS, song_with_title=EXAMPLE | {"timeline": True})
    names = media(text_fields() | OPTIONS, names=EXAMPLE, candidates=EXAMPLE | {"languages": ["en", "fr"], "top_k": 2})
    content = {"multipart/form-data": form, "application/json": names}
    return {"requestBody": body(content), "parameters": [*_query_options(), _DEADLINE]}


def batch() -> Json:
    """Describe POST /identify/batch: lines of JSON, and their common options in the query."""
    lines = '{"id": 1, "title": "La vie en rose", "artist": "Édith Piaf"}\n{"id": 2, "title": "Für immer jung"}\n'
    schema = {"type": "string", "description": "A JSON object a line."}
    content = {"application/x-ndjson": {"schema": schema, "examples": {"two_lines": {"value": lines}}}}
    return {"requestBody": body(content), "parameters": [*_query_options(), _DEADLINE]}


def ndjson() -> dict[int | str, dict[str, Any]]:
    """The answer of POST /identify/batch."""
    description = "A line for each line: `id`, and the members of the answer, or those of a problem."
    return {200: {"description": description, "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


def detect_language() -> Json:
    """Describe POST /detect-language."""
    form = media(
        {"audio_file": binary("An audio file, or raw PCM with encode=false.")}, ("audio_file",), file={"audio_file": "…"}
    )
    return {"requestBody": body({"multipart/form-data": form}), "parameters": [_DEADLINE]}


def infer() -> Json:
    """Describe POST /v2/models/{name}/infer."""
    title = {"name": "title", "datatype": "BYTES", "shape": [2], "data": ["La vie en rose", "Für immer jung"]}
    example = {"id": "1", "inputs": [title], "parameters": {"top_k": 1}, "outputs": [{"name": "language"}]}
    inputs = {"inputs": {"type": "array", "items": {"type": "object"}}}
    content = {"application/json": media(inputs, ("inputs",), two_titles=example)}
    return {"requestBody": body(content), "parameters": [_DEADLINE]}


def inference_errors() -> dict[int | str, dict[str, Any]]:
    """The protocol's own form of errors."""
    content = {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
    found = {status: {"description": problem["description"], "content": content} for status, problem in problems().items()}
    return {404: {"description": f"Codes: {NotFound.code}", "content": content}} | found


def _query_options() -> list[Json]:
    """The options as query parameters; each may stand there or in the body."""
    found = []
    for name, option in OPTIONS.items():
        schema = {key: value for key, value in option.items() if key != "description"}
        if name == "languages":  # a list in JSON, separated by commas here
            schema = {"type": "string"}
        found.append({"name": name, "in": "query", "description": option["description"], "schema": schema})
    return found


def describe(app: FastAPI) -> None:
    """Have the application's document made here, once."""
    app.openapi = cache(partial(_document, app))  # type: ignore[method-assign]


def _document(app: FastAPI) -> Json:
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    components = found.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = _KEYS
    found["security"] = [{}, *({name: []} for name in _KEYS)]  # {}: no key, where the operator has set none
    found["x-errors"] = [
        {"code": code, "status": error.status, "title": error.title, "remedy": error.remedy}
        for code, error in _errors().items()
    ]
    return found
