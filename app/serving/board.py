"""Which release all processes of a service shall serve: one line in a file that they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar


class ReleaseBoard:
    """Without a path there is one process only, and nobody to be told."""

    NAME: ClassVar[str] = "release"

    def __init__(self, path: Path | None = None, tell: Callable[[], None] = lambda: None) -> None:
        """`tell`: makes every process look at the board again."""
        self._path = path
        self._tell = tell

    def read(self) -> str | None:
        """`family/release`, or None when nothing was written."""
        return self._path.read_text() if self._path is not None and self._path.exists() else None

    def write(self, model: str) -> None:
        if self._path is not None:
            new = self._path.with_suffix(".new")
            new.write_text(model)
            new.replace(self._path)
            self._tell()
