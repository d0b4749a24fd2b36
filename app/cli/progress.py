"""Progress bars of all commands, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from app.lab.progress import Advance, Progress


class Bars(Progress):
    """One bar for each count that is running; nothing but lines where standard error is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = RichProgress(*columns, *times, console=self._console, transient=True)

    @contextmanager
    def counting(self, what: str, total: int | None = None) -> Iterator[Advance]:
        task = self._bars.add_task(what, total=total)
        if self._console.is_terminal:
            self._bars.start()
        try:
            yield lambda n: self._bars.advance(task, n)
        finally:
            self._bars.remove_task(task)
            if self._console.is_terminal and not self._bars.tasks:
                self._bars.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
