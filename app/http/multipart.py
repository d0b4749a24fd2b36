"""multipart/form-data for one track: a streaming reader with every bound applied while the bytes arrive.

Starlette's form parser decodes non-UTF-8 text as Latin-1 and spools to disk; here such text is an error, nothing touches
the disk, and a refusal can come before the audio part has been read.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import DuplicatePart, InvalidOption, MalformedMultipart, MetadataTooLong, UploadTooLarge

MAX_PARTS = 32  # there are fewer names than that
MAX_PADDING = 256  # spaces behind the first delimiter
BYTES_PER_CHARACTER = 4  # the longest UTF-8 encoding of one character
NOT_GIVEN = frozenset({b"", b"null", b"undefined"})  # what browsers and scripts send for a field that was left empty


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Limits of one form, in bytes, and the name of the part that is a file."""

    max_body: int
    max_field: int
    file_part: str = "audio"


@dataclass(slots=True)
class Form:
    """The audio part, if any, and the text parts as bytes by name."""

    audio: bytes | None = None
    fields: dict[str, bytes] = field(default_factory=dict)


class Gate(Protocol):
    """Decides whether audio may come in."""

    def open(self) -> None:
        """Called at the first byte of audio. May raise to reject it."""

    def take(self, n_bytes: int) -> None:
        """Called with the number of bytes received. May raise to reject the rest."""


class _FormReader:
    """Callbacks for python-multipart. Errors raised here pass through the parser to the caller."""

    def __init__(self, limits: FormLimits, known: frozenset[str], gate: Gate) -> None:
        self._limits = limits
        self._known = known
        self._gate = gate
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._seen: set[str] = set()
        self.form = Form()
        self.complete = False

    def on_part_begin(self) -> None:
        self._disposition, self._chunks, self._size = b"", [], 0

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise MalformedMultipart("a part has no Content-Disposition: form-data with a name")
        name = options[b"name"].decode("utf-8", "replace")
        if name != self._limits.file_part and name not in self._known:
            raise InvalidOption(f"unknown part; known: {', '.join([self._limits.file_part, *sorted(self._known)])}")
        if name in self._seen:
            raise DuplicatePart(f"the part '{name}' was sent more than once")
        if len(self._seen) >= MAX_PARTS:
            raise MalformedMultipart(f"more than {MAX_PARTS} parts")
        self._seen.add(name)
        self._name = name
        self._is_file = bool(options.get(b"filename"))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._limits.file_part:
            if not self._size:
                self._gate.open()
            self._gate.take(end - start)
        self._size += end - start
        if self._name != self._limits.file_part and self._size > self._limits.max_field:
            raise MetadataTooLong(f"'{self._name}' is longer than {self._limits.max_field} bytes")
        self._chunks.append(data[start:end])

    def on_part_end(self) -> None:
        value = b"".join(self._chunks)
        self._chunks = []
        if value in NOT_GIVEN and not self._is_file:
            return
        if self._name == self._limits.file_part:
            self.form.audio = value
        else:
            self.form.fields[self._name] = value

    def on_end(self) -> None:
        self.complete = True


class _Preamble:
    """Takes away what stands before the first delimiter line, and that line's padding (RFC 2046 §5.1.1)."""

    def __init__(self, boundary: bytes) -> None:
        self._line = re.compile(rb"\r\n(--%b)(--|[ \t]{0,%d}\r\n)" % (re.escape(boundary), MAX_PADDING))
        self._longest = len(boundary) + MAX_PADDING + 6  # of such a line
        self._held = b"\r\n"  # may be the beginning of it; the first line has no line end before it
        self._passed = False

    def without(self, chunk: bytes) -> bytes:
        """The next bytes of the body → the next bytes for the parser."""
        if self._passed:
            return chunk
        self._held += chunk
        found = self._line.search(self._held)
        if found is None:
            self._held = self._held[-self._longest :]
            return b""
        self._passed = True
        return found[1] + (b"--" if found[2] == b"--" else b"\r\n") + self._held[found.end() :]


async def read_form(
    chunks: AsyncIterator[bytes],
    content_type: str,
    limits: FormLimits,
    known: frozenset[str],
    gate: Gate,
) -> Form:
    """Read a whole form; `gate` is asked about its audio.

    Raises what `gate` raises, MalformedMultipart, UploadTooLarge, MetadataTooLong, DuplicatePart, InvalidOption.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedMultipart("Content-Type has no boundary")
    reader = _FormReader(limits, known, gate)
    names = [name for name in dir(reader) if name.startswith("on_")]
    try:
        parser = MultipartParser(boundary, {name: getattr(reader, name) for name in names})  # type: ignore[arg-type]
        preamble = _Preamble(boundary)
        received = 0
        async for chunk in chunks:
            received += len(chunk)
            if received > limits.max_body:
                raise UploadTooLarge(f"the body is larger than {limits.max_body} bytes")
            parser.write(preamble.without(chunk))
        parser.finalize()
    except FormParserError as error:
        raise MalformedMultipart(f"the body is not valid multipart/form-data: {error}") from error
    if not reader.complete:
        raise MalformedMultipart("the body ended before the closing boundary")
    return reader.form
