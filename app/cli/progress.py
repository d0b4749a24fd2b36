"""Progress bars of all commands, on standard error."""

from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from app.lab.progress import Progress

T = TypeVar("T")


class Bars(Progress):
    """One bar for each count that is running; nothing but lines where standard error is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = RichProgress(*columns, *times, console=self._console, transient=True)

    def each(self, what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
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
        self._console.print(text, markup=False, soft_wrap=True)
