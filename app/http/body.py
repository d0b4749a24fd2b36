"""A request's bytes → a checked IdentifyRequest, whichever content type it came in."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request

from app.errors import DuplicatePart, InvalidOption, MalformedJson, MetadataTooLong, UnsupportedContentType, UploadTooLarge
from app.families.contract import InputField, TextField
from app.families.fields import JSON_BYTES_PER_CHARACTER, most_bytes
from app.http.encoding import body_chunks
from app.http.gate import AudioGate
from app.http.multipart import BYTES_PER_CHARACTER, LEAST_FIELD_BYTES, NOT_GIVEN, read_form
from app.http.options import FIELD_NAMES, OPTION_NAMES, IdentifyRequest, build_options, build_request
from app.settings import MEGABYTE, Settings

JSON_OVERHEAD_BYTES = 65_536  # names, options and white space
Fields = Mapping[str, InputField]
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8; some Windows programs write it


class BodyReader:
    """Reads bodies within the bounds of the settings."""

    def __init__(self, settings: Settings, further: Callable[[], Fields]) -> None:
        """`further`: what the release that is served reads beside metadata."""
        self._further = further
        self._max_upload_bytes = int(settings.max_upload_mb * MEGABYTE)
        self._max_characters = settings.max_metadata_characters
        self._max_json_bytes = JSON_OVERHEAD_BYTES + 3 * self._max_characters * JSON_BYTES_PER_CHARACTER  # of names

    async def read(self, request: Request, gate: AudioGate) -> IdentifyRequest:
        """Raises an error of the request as a whole, the errors of `gate`, or ClientDisconnect."""
        query = query_options(request)
        kind = media_type(request)
        if kind == "application/json":
            return self.request_of(await self.read_json(request), query)
        if kind != "multipart/form-data":
            raise UnsupportedContentType(f"got {kind[:60]!r}" if kind else "the request has no Content-Type")
        further = self._further()
        longest = max(LEAST_FIELD_BYTES, self._max_characters * BYTES_PER_CHARACTER, *map(most_bytes, further.values()))
        known = FIELD_NAMES | further.keys()
        form = await read_form(self.upload(request), request.headers["content-type"], gate, known, longest)
        options = {name: _ascii(name, value) for name, value in form.fields.items() if name in OPTION_NAMES}
        return build_request(_merged(form.fields | options, query), form.audio, self._max_characters, further)

    async def read_file(self, request: Request, gate: AudioGate, part: str) -> bytes | None:
        """The one file of a form, in the part of that name. Raises as `read`."""
        if (kind := media_type(request)) != "multipart/form-data":
            raise UnsupportedContentType(f"got {kind[:60]!r}, expected multipart/form-data with the part {part}")
        return (await read_form(self.upload(request), request.headers["content-type"], gate, file_part=part)).audio

    def request_of(self, fields: Mapping[str, Any], query: Mapping[str, str], audio: bytes | None = None) -> IdentifyRequest:
        """Members of a JSON object, the options of the query, and audio. Raises as `read`."""
        return build_request(_merged(fields, query), audio, self._max_characters, self._further())

    def upload(self, request: Request) -> AsyncIterator[bytes]:
        """A body that may hold audio. Raises UploadTooLarge, at once if its length says so, and what `body_chunks` does."""
        if (length := _length(request)) > self._max_upload_bytes:
            raise UploadTooLarge(f"the body has {length} bytes, at most {self._max_upload_bytes} are accepted")
        return self._bounded(body_chunks(request))

    async def _bounded(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in chunks:
            received += len(chunk)
            if received > self._max_upload_bytes:
                raise UploadTooLarge(f"the body is larger than {self._max_upload_bytes} bytes")
            yield chunk

    @property
    def max_json_bytes(self) -> int:
        """Size of the longest JSON object that is accepted: every field at its bound."""
        return self._max_json_bytes + sum(map(most_bytes, self._further().values()))

    def too_long(self, what: str) -> MetadataTooLong:
        """The error of a JSON object that is longer than that; says which field may be too long."""
        texts = {name: field for name, field in self._further().items() if isinstance(field, TextField)}
        limits = "".join(f", {name} {field.max_characters} characters" for name, field in texts.items())
        return MetadataTooLong(f"{what} may have {self.max_json_bytes} bytes{limits}")

    async def read_json(self, request: Request) -> dict[str, Any]:
        """The body as a JSON object. Raises MetadataTooLong, MalformedJson, DuplicatePart, and what `body_chunks` does."""
        body, most = bytearray(), self.max_json_bytes
        if _length(request) > most:  # refused before the client sends it
            raise self.too_long("a JSON body")
        async for chunk in body_chunks(request):
            body += chunk
            if len(body) > most:
                raise self.too_long("a JSON body")
        return json_object(bytes(body))


def _length(request: Request) -> int:
    """Content-Length; 0 if there is none."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


def media_type(request: Request) -> str:
    """Content-Type without its parameters; "" if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_object(body: bytes) -> dict[str, Any]:
    """Raises MalformedJson, or DuplicatePart where an object has two members of one name."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedJson(f"the body is not valid JSON: {error}{_no_number(body)}") from None
    if not isinstance(fields, dict):
        raise MalformedJson(f"expected a JSON object, got {type(fields).__name__}")
    # from_json keeps the last of several members; as many colons as members: all distinct
    if body.count(b":") != len(fields):
        json.loads(body, object_pairs_hook=_check_names)
    return fields


def _no_number(body: bytes) -> str:
    """Names the member with NaN or Infinity, where nothing else is wrong: some clients write these, but JSON has neither."""
    try:
        fields = from_json(body)
    except ValueError:
        return ""
    members = fields.items() if isinstance(fields, dict) else ()
    names = [name for name, value in members if to_json(value) != to_json(value, inf_nan_mode="null")]
    return f"; NaN and Infinity, as in {names[0][:40]!r}, are no JSON" if names else ""


def _check_names(members: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DuplicatePart(f"the member {twice[:40]!r} was sent more than once")


def query_options(request: Request) -> dict[str, str]:
    """Options from the query string. Metadata is not accepted there: query strings end up in logs."""
    if not request.scope["query_string"]:
        return {}
    options: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in OPTION_NAMES:
            told = f"unknown option {name[:40]!r}; known in the query: {', '.join(sorted(OPTION_NAMES))}"
            raise InvalidOption(f"{told}. Metadata belongs in the body" if name in FIELD_NAMES else told)
        if name in options:
            raise DuplicatePart(f"the option '{name}' was sent more than once")
        options[name] = value
    options = {name: value for name, value in options.items() if value.strip().encode() not in NOT_GIVEN}
    build_options(options)  # fails before a body is read
    return options


def _merged(fields: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    if not query:
        return dict(fields)
    merged = {**query, **{name: value for name, value in fields.items() if value is not None and value != ""}}
    both = sorted(fields.keys() & query.keys())
    if both and build_options(merged) != build_options({**merged, **query}):  # generated clients send their defaults in both
        raise DuplicatePart(f"another value in the query than in the body: {', '.join(both)}")
    return merged


def _ascii(name: str, value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidOption(f"{name}: expected ASCII text") from None
