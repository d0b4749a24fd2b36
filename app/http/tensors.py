"""Tensors of the Open Inference Protocol v2: JSON and the binary extension → one dict of values per track, and answers back.

A release of genres or tags has these under the same names, `language` and `languages`.
Elements of BYTES are strings in JSON (base64 for `audio`, which is no text); in binary form each is preceded by its length
in 4 bytes, little-endian.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError
from pydantic_core import to_json

from app.errors import InvalidTensor
from app.families.tasks import Json, headline_of
from app.http.options import first_fault

MAX_TRACKS = 256  # in one request
MAX_INPUTS = 64  # there are at most as many names as the release has fields
AUDIO_INPUT = "audio"
OUTPUTS = {"language": "BYTES", "probability": "FP32", "languages": "BYTES", "probabilities": "FP32", "answer": "BYTES"}
PER_CLASS = frozenset({"languages", "probabilities"})  # outputs with a value for each class that is listed
BINARY_OUTPUT = "binary_data_output"  # the parameter that is not an option of /identify
_LENGTH = struct.Struct("<I")


class Tensor(BaseModel):
    """One input."""

    name: str
    datatype: str
    shape: list[NonNegativeInt] = Field(min_length=1, max_length=2)
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class WantedOutput(BaseModel):
    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """The JSON part of a request."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[Tensor] = Field(min_length=1, max_length=MAX_INPUTS)
    outputs: list[WantedOutput] | None = None

    @property
    def has_audio(self) -> bool:
        return any(tensor.name == AUDIO_INPUT for tensor in self.inputs)

    @property
    def wanted(self) -> list[tuple[str, bool]]:
        """Names of outputs, and whether in binary form."""
        binary = self.parameters.get(BINARY_OUTPUT) is True
        outputs = self.outputs or [WantedOutput(name=name) for name in OUTPUTS]
        return [(one.name, one.parameters.get("binary_data", binary) is True) for one in outputs]


def infer_request(fields: Json) -> InferRequest:
    """Raises InvalidTensor."""
    try:
        asked = InferRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidTensor(first_fault(error.errors())) from None
    names = [one.name for one in asked.outputs or ()]
    if len(set(names)) < len(names):  # each would repeat the answers of all tracks
        raise InvalidTensor("an output was asked for more than once")
    if unknown := [name for name in names if name not in OUTPUTS]:
        raise InvalidTensor(f"no output {unknown[0][:40]!r}; there are {', '.join(OUTPUTS)}")
    return asked


def tracks(asked: InferRequest, binary: bytes) -> list[dict[str, bytes]]:
    """Values by the names of inputs, a dict for each track; empty ones are left out. Raises InvalidTensor."""
    columns: dict[str, list[bytes]] = {}
    at = 0
    for tensor in asked.inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at):
            raise InvalidTensor(f"{tensor.name[:40]}: binary_data_size is {size!r:.20}, {len(binary) - at} bytes are left")
        if tensor.name in columns:
            raise InvalidTensor(f"the input {tensor.name[:40]!r} was sent more than once")
        columns[tensor.name] = _elements(tensor, None if size is None else binary[at : at + size])
        at += size or 0
    if at != len(binary):
        raise InvalidTensor(f"{len(binary) - at} bytes follow the last tensor")
    if len(lengths := {len(column) for column in columns.values()}) > 1:
        raise InvalidTensor(f"all inputs have one element per track; got {sorted(lengths)}")
    n = lengths.pop()
    return [{name: column[i] for name, column in columns.items() if column[i]} for i in range(n)]


def _elements(tensor: Tensor, binary: bytes | None) -> list[bytes]:
    name, n = tensor.name[:40], prod(tensor.shape)
    if tensor.datatype != "BYTES":
        raise InvalidTensor(f"{name}: expected BYTES, got {tensor.datatype[:20]}")
    if tensor.shape[1:] not in ([], [1]) or not 0 < n <= MAX_TRACKS:
        raise InvalidTensor(f"{name}: expected the shape [n] or [n, 1] with n up to {MAX_TRACKS}, got {tensor.shape}")
    if (binary is None) == (tensor.data is None):
        raise InvalidTensor(f"{name}: expected either data or parameters.binary_data_size")
    flat = [one for row in tensor.data or [] for one in (row if isinstance(row, list) else [row])]
    found = _unpacked(name, binary, n) if binary is not None else [_value(name, one) for one in flat]
    if len(found) != n:
        raise InvalidTensor(f"{name}: the shape says {n} elements, {len(found)} came")
    return found


def _unpacked(name: str, binary: bytes, n: int) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(binary):
        if len(found) == n:  # 64 MB can hold 16 million empty ones
            raise InvalidTensor(f"{name}: the shape says {n} elements, more came")
        if len(binary) - at < _LENGTH.size:
            raise InvalidTensor(f"{name}: the last element has no length")
        (length,) = _LENGTH.unpack_from(binary, at)
        at += _LENGTH.size
        if length > len(binary) - at:
            raise InvalidTensor(f"{name}: an element says it has {length} bytes, {len(binary) - at} are left")
        found.append(binary[at : at + length])
        at += length
    return found


def _value(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise InvalidTensor(f"{name}: expected strings, got {type(value).__name__}")
    if name != AUDIO_INPUT:
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidTensor(f"{name}: expected base64, or the binary tensor extension") from None


# --- answers ----------------------------------------------------------------------------------------------------------


def outputs(answers: Sequence[Json], wanted: Sequence[tuple[str, bool]]) -> tuple[list[Json], bytes]:
    """The `outputs` of a response, and the bytes behind it."""
    found, n = [headline_of(answer) for answer in answers], len(answers)
    columns: dict[str, list[Any]] = {
        "language": [one.label for one in found],
        "probability": [one.probability for one in found],
        "languages": [entry["code"] for one in found for entry in one.ranked],
        "probabilities": [entry["probability"] for one in found for entry in one.ranked],
        "answer": [to_json(answer).decode() for answer in answers],
    }
    entries, blobs = [], []
    for name, in_binary in wanted:
        shape = [n, len(columns[name]) // n] if name in PER_CLASS else [n]
        entry: Json = {"name": name, "datatype": OUTPUTS[name], "shape": shape}
        if in_binary:
            blobs.append(_packed(columns[name]))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = columns[name]
        entries.append(entry)
    return entries, b"".join(blobs)


def _packed(values: Sequence[Any]) -> bytes:
    if isinstance(values[0], str):
        return b"".join(_LENGTH.pack(len(text)) + text for text in map(str.encode, values))
    return np.array(values, "<f4").tobytes()
