"""The queue of windows for the device, bounded in items and in seconds of audio.

Further windows of tracks that were listened to come before the first windows of others, in each case the oldest first. In
one line for all, tracks that wait together would go on in turns and be answered together, the first as late as the last.
"""

import asyncio
from dataclasses import dataclass

from app.domain import FloatArray
from app.serving.metrics import Metrics


@dataclass(eq=False, slots=True)
class Item:
    """One window of one request. Its future gets (n_features,) or an error; it is cancelled when the caller leaves."""

    samples: FloatArray  # (window_samples,)
    seconds: float
    deadline: float  # loop.time()
    future: asyncio.Future[FloatArray]
    enqueued_at: float  # loop.time()
    begun: bool = False  # earlier windows of its track were listened to
    started_at: float = 0.0

    def wanted(self, now: float) -> bool:
        """Whether its caller still waits and its deadline has not passed."""
        return not self.future.done() and now < self.deadline


class WindowQueue:
    """Two lines. An item leaves when it is taken, or as soon as its caller has left."""

    def __init__(self, max_items: int, max_audio_seconds: float, metrics: Metrics) -> None:
        self._begun: dict[Item, None] = {}
        self._first: dict[Item, None] = {}
        self.max_items = max_items
        self.max_audio_seconds = max_audio_seconds
        self._dropped = metrics.dropped_windows
        metrics.queue_items.set_function(lambda: self.n_items)
        metrics.queue_audio_seconds.set_function(lambda: self.audio_seconds)

    @property
    def n_items(self) -> int:
        return len(self._begun) + len(self._first)

    @property
    def audio_seconds(self) -> float:
        return sum(item.seconds for item in [*self._begun, *self._first])

    def fits(self, n_items: int, audio_seconds: float) -> bool:
        return self.n_items + n_items <= self.max_items and self.audio_seconds + audio_seconds <= self.max_audio_seconds

    def put(self, item: Item) -> None:
        line = self._begun if item.begun else self._first
        line[item] = None
        item.future.add_done_callback(lambda _: self._drop(line, item))

    @property
    def oldest(self) -> Item | None:
        """The window that has waited longest."""
        heads = [next(iter(line)) for line in (self._begun, self._first) if line]
        return min(heads, key=lambda item: item.enqueued_at, default=None)

    def take(self, most: int, now: float) -> list[Item]:
        """Up to `most` wanted items in their order; the unwanted ones before them are dropped."""
        taken: list[Item] = []
        while len(taken) < most and (line := self._begun or self._first):
            item = next(iter(line))
            if item.wanted(now):
                del line[item]
                taken.append(item)
            else:
                self._drop(line, item)
        return taken

    def clear(self) -> list[Item]:
        """Empty the queue and return its items."""
        items = [*self._begun, *self._first]
        self._begun.clear()
        self._first.clear()
        return items

    def _drop(self, line: dict[Item, None], item: Item) -> None:
        if item in line:
            del line[item]
            self._dropped.inc()
