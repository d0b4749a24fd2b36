"""What all processes of a service know together, in files that they share: the release, and which of them have loaded it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Seat:
    """Of one process among all of them. A replacement takes the seat of the one it replaces."""

    number: int  # from 0
    of: int


class ReleaseBoard:
    """Without a path there is one process only, and nobody to be told or waited for."""

    NAME: ClassVar[str] = "release"

    def __init__(self, path: Path | None = None, tell: Callable[[], None] = lambda: None, seat: Seat | None = None) -> None:
        """`tell`: makes every process look at the board again. Without a seat nobody is waited for."""
        self._path = path
        self._tell = tell
        self._seat = seat

    def read(self) -> str | None:
        """`family/release`, or None when nothing was written."""
        return self._path.read_text() if self._path is not None and self._path.exists() else None

    def write(self, model: str) -> None:
        if self._path is not None:
            new = self._path.with_suffix(".new")
            new.write_text(model)
            new.replace(self._path)
            self._tell()

    def take_seat(self) -> None:
        """This process can serve."""
        if self._path is not None and self._seat is not None:
            _seat_file(self._path, self._seat.number).touch()

    def leave_seat(self, number: int) -> None:
        """The process of that number opens the port before it can serve."""
        if self._path is not None:
            _seat_file(self._path, number).unlink(missing_ok=True)

    @property
    def shared(self) -> bool:
        """There are other processes."""
        return self._seat is not None

    @property
    def complete(self) -> bool:
        """No connection can meet a process that is still loading."""
        if self._path is None or self._seat is None:
            return True
        return all(_seat_file(self._path, number).exists() for number in range(self._seat.of))


def _seat_file(path: Path, number: int) -> Path:
    return path.with_name(f"loaded-{number}")
