"""Tells what long work is doing. `app.cli.progress` draws bars; this one stays quiet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]  # called with how many items have just been done


class Progress:
    """Says nothing; others derive from it."""

    @contextmanager
    def counting(self, what: str, total: int | None = None) -> Iterator[Advance]:
        """Counts items up to `total`, if it is known."""
        yield lambda n: None

    def say(self, text: str) -> None:
        """Prints a line that stays."""
