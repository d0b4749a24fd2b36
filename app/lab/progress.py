"""Tells what long work is doing. `app.cli.progress` draws bars; this one stays quiet."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Says nothing; others derive from it."""

    def each(self, what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Yields the items and counts them, up to `total` if their number cannot be told."""
        yield from items

    def say(self, text: str) -> None:
        """Prints a line that stays."""


QUIET = Progress()
