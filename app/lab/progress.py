"""Tells on standard error what long work is doing."""

from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import TypeVar

from rich import progress
from rich.console import Console

T = TypeVar("T")


class Progress:
    """Draws a bar for each count that is running; prints nothing but lines where standard error is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
        times = (progress.TimeElapsedColumn(), progress.TimeRemainingColumn())
        self._bars = progress.Progress(*columns, *times, console=self._console, transient=True)

    def each(self, what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Yields the items and counts them, up to `total` if their number cannot be told."""
        task = self._bars.add_task(what, total=total or length_hint(items))
        if self._console.is_terminal:
            self._bars.start()
        try:
            for item in items:
                yield item
                self._bars.advance(task)
        finally:
            self._bars.remove_task(task)
            if self._console.is_terminal and not self._bars.tasks:
                self._bars.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(text, markup=False, soft_wrap=True)


QUIET = Progress(quiet=True)
