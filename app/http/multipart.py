"""multipart/form-data for one track: a streaming reader with every bound applied while the bytes arrive.

Starlette's form parser decodes non-UTF-8 text as Latin-1 and spools to disk; here such text is an error, nothing touches
the disk, and a refusal can come before the audio part has been read.
"""

import base64
import binascii
import quopri
import re
from collections.abc import AsyncIterator, Callable, Set
from dataclasses import dataclass, field

from python_multipart.multipart import parse_options_header

from app.errors import DuplicatePart, InvalidOption, MalformedMultipart, MetadataTooLong
from app.http.gate import AudioGate

MAX_HEADER_BYTES = 8192  # of one part
LEAST_FIELD_BYTES = 1024  # that every text part may have: options, `_charset_`
BYTES_PER_CHARACTER = 4  # the longest UTF-8 encoding of one character
NOT_GIVEN = frozenset({b"", b"null", b"undefined"})  # what browsers and scripts send for a field that was left empty
CHARSETS = frozenset(  # of text that is not UTF-8, where its part says so; Java's HttpClient writes ISO-8859-1 by default
    {f"iso-8859-{part}" for part in (1, 2, 5, 7, 8, 9, 15)}
    | {f"windows-125{part}" for part in range(9)}
    | {"koi8-r", "koi8-u", "shift_jis", "windows-31j", "euc-jp", "euc-kr", "gb18030", "gbk", "gb2312", "big5", "utf-16"}
)
CHARSET_PART = "_charset_"  # of a form's text, where its parts name none (RFC 7578 §4.6)
_TRANSFERS: dict[bytes, Callable[[bytes], bytes]] = {  # as mail libraries write forms
    b"base64": base64.b64decode,
    b"quoted-printable": quopri.decodestring,
}
_FOLD = re.compile(rb"\r?\n[ \t]+")  # a header that goes on in the next line
# behind a delimiter: the last one's dashes; or padding and a line end; or the beginning of either where more has to come
_BEHIND = re.compile(rb"(?P<last>--)|[ \t]{0,256}(?P<eol>\r?\n)|(?:-|[ \t]{0,256}\r?)(?P<cut>\Z)")


@dataclass(slots=True)
class Form:
    """The audio part, if any, and the text parts as bytes by name."""

    audio: bytes | None = None
    fields: dict[str, bytes] = field(default_factory=dict)


class _FormReader:
    """Takes a form apart while it comes (RFC 7578; preamble, padding and epilogue as in RFC 2046 §5.1.1)."""

    def __init__(self, boundary: bytes, gate: AudioGate, known: Set[str], max_field: int, file_part: str) -> None:
        self._delimiter = b"\n--" + boundary
        self._boundary = boundary
        self._gate = gate
        self._known = known
        self._max_field = max_field
        self._file_part = file_part
        self._held = b"\n"  # what has come and is not taken apart; the first line has no line end before it
        self.eol = b""  # of this form, by its first delimiter; none: still in the preamble
        self._in_headers = False
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._is_file = False
        self._charset = ""
        self._chunks: list[bytes] = []
        self._size = 0
        self._seen: set[str] = set()
        self.form = Form()
        self.complete = False

    def feed(self, chunk: bytes) -> None:
        self._held += chunk
        while not self.complete and (self._read_headers() if self._in_headers else self._read_data()):
            pass

    def _read_headers(self) -> bool:
        """False if more has to come."""
        block, blank_line, rest = self._held.partition(self.eol * 2)
        if len(block) > MAX_HEADER_BYTES:
            raise MalformedMultipart(f"a part has more than {MAX_HEADER_BYTES} bytes of headers")
        if not blank_line:
            return False
        pairs = [line.partition(b":") for line in _FOLD.sub(b" ", block).split(self.eol)]
        self._begin({name.strip().lower(): value.strip() for name, _, value in pairs})
        self._held, self._in_headers = rest, False
        return True

    def _read_data(self) -> bool:
        """False if more has to come."""
        at, behind = -1, None
        while behind is None:  # what only begins like a delimiter is passed
            at = self._held.find(self._delimiter, at + 1)
            if at < 0:
                self._take(max(0, len(self._held) - len(self._delimiter) + 1))
                return False
            behind = _BEHIND.match(self._held, at + len(self._delimiter))
        self._take(at)
        if behind["cut"] is not None:
            return False
        if self.eol:
            self._end()
        if behind["last"]:
            self.complete = True
            return False
        self._held = self._held[behind.start("eol") - at :]  # a part without headers begins with an empty line
        if not self.eol:
            self.eol = behind["eol"]
            self._delimiter = self.eol + b"--" + self._boundary
        self._in_headers = True
        return True

    def _begin(self, headers: dict[bytes, bytes]) -> None:
        kind, options = parse_options_header(headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise MalformedMultipart("a part has no Content-Disposition: form-data with a name")
        name = options[b"name"].decode("utf-8", "replace")
        if name not in self._known | {self._file_part, CHARSET_PART}:
            known = ", ".join([self._file_part, *sorted(self._known)])
            raise InvalidOption(f"unknown part {name[:40]!r}; known: {known}")
        if name in self._seen:
            raise DuplicatePart(f"the part '{name}' was sent more than once")
        self._seen.add(name)
        self._headers, self._name, self._is_file = headers, name, bool(options.get(b"filename"))
        self._chunks, self._size = [], 0

    def _take(self, n_bytes: int) -> None:
        """The next bytes are of the part, or of the preamble."""
        data, self._held = self._held[:n_bytes], self._held[n_bytes:]
        if not data or not self.eol:
            return
        if self._name == self._file_part:
            if not self._size:
                self._gate.open()
            self._gate.take(len(data))
        self._size += len(data)
        if self._name != self._file_part and self._size > self._max_field:
            raise MetadataTooLong(f"'{self._name}' is longer than {self._max_field} bytes")
        self._chunks.append(data)

    def _end(self) -> None:
        value = _transferred(b"".join(self._chunks), self._headers.get(b"content-transfer-encoding", b"").lower())
        self._chunks = []
        if not self._is_file and value.strip() in NOT_GIVEN:
            return
        if self._name == self._file_part:
            self.form.audio = value
        elif self._name == CHARSET_PART:
            self._charset = value.decode("latin-1").strip().lower()
        else:
            self.form.fields[self._name] = _utf8(value, self._headers.get(b"content-type"), self._charset)


def _transferred(value: bytes, encoding: bytes) -> bytes:
    if encoding in {b"", b"7bit", b"8bit", b"binary"}:
        return value
    try:
        return _TRANSFERS[encoding](value)
    except (KeyError, binascii.Error):
        raise MalformedMultipart(f"Content-Transfer-Encoding {encoding[:40].decode('latin-1')}: cannot be decoded") from None


def _utf8(value: bytes, content_type: bytes | None, default: str) -> bytes:
    """Text of a charset that its part or form names as UTF-8; other text stays as it is, for its field to refuse."""
    charset = parse_options_header(content_type)[1].get(b"charset", b"").decode("latin-1").lower() or default
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode(charset, "replace").encode() if charset in CHARSETS else value
    return value


async def read_form(
    chunks: AsyncIterator[bytes],
    content_type: str,
    gate: AudioGate,
    known: Set[str] = frozenset(),
    max_field: int = LEAST_FIELD_BYTES,
    file_part: str = "audio",
) -> Form:
    """Read a whole form; `gate` is asked about its audio. Raises what `gate` raises, and what is wrong with the form.

    `known`: names of the text parts, of at most `max_field` bytes each; `file_part`: the name of the part that is a file.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedMultipart("Content-Type has no boundary")
    reader = _FormReader(boundary, gate, known, max_field, file_part)
    async for chunk in chunks:
        reader.feed(chunk)
    if not reader.complete:
        why = "ended before the closing boundary" if reader.eol else "has no line with the boundary that Content-Type names"
        raise MalformedMultipart(f"the body {why}")
    return reader.form
