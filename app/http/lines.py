"""Chunks of bytes → lines, with a bound on each: a longer one costs no memory, and the lines behind it are read."""


class Lines:
    """Splits at line feeds; what is left of a line at the end of the stream is its last one."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = b""  # the beginning of a line whose end has not come
        self._overlong = False  # that line is too long already, and its bytes are thrown away

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The lines that end in this chunk; None for one that is too long."""
        *whole, self._held = (self._held + chunk).split(b"\n")
        lines: list[bytes | None] = [line if len(line) <= self._max_bytes else None for line in whole]
        if self._overlong and lines:
            lines[0] = None
            self._overlong = False
        if self._overlong or len(self._held) > self._max_bytes:
            self._overlong = True
            self._held = b""
        return lines

    def rest(self) -> list[bytes | None]:
        """The last line, if the stream did not end with a line feed."""
        if self._overlong:
            return [None]
        return [self._held] if self._held else []
