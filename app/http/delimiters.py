"""Delimiter lines of a multipart body, brought into the one form that the parser reads (RFC 2046 §5.1.1)."""

from __future__ import annotations

import re

_REST_OF_LINE = re.compile(rb"--|[ \t]{0,256}\r\n")  # after the boundary: the end of the body, or padding
_PART_OF_IT = re.compile(rb"-|[ \t]{0,256}\r?")  # so far; the next bytes decide


class Delimiters:
    """Drops what stands before the first delimiter line and behind the last one, and the padding of each."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"  # bytes that may be the beginning of a delimiter; the first line has no line end before it
        self._in_preamble = True
        self._closed = False

    def feed(self, chunk: bytes) -> bytes:
        """The next bytes of the body → the next bytes for the parser. Holds back less than a delimiter line."""
        data, self._held = self._held + chunk, b""
        passed: list[bytes] = []
        at = 0
        while not self._closed:
            found = data.find(self._delimiter, at)
            if found < 0:
                found = max(at, len(data) - len(self._delimiter) + 1)
                passed.append(self._content(data[at:found]))
                self._held = data[found:]
                break
            after = found + len(self._delimiter)
            rest = _REST_OF_LINE.match(data, after)
            if rest is not None:
                passed += (self._content(data[at:found]), self._line(rest[0]))
                at = rest.end()
            elif _PART_OF_IT.fullmatch(data, after):
                passed.append(self._content(data[at:found]))
                self._held = data[found:]
                break
            else:  # a line of content that begins like the boundary
                passed.append(self._content(data[at:after]))
                at = after
        return b"".join(passed)

    def _content(self, data: bytes) -> bytes:
        return b"" if self._in_preamble else data

    def _line(self, rest: bytes) -> bytes:
        delimiter = self._delimiter[2:] if self._in_preamble else self._delimiter
        self._in_preamble = False
        self._closed = rest == b"--"
        return delimiter + (b"--\r\n" if self._closed else b"\r\n")
