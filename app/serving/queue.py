"""The queue of windows for the device, bounded in items and in seconds of audio.

Further windows of tracks that were listened to come before the first windows of others, in each case the oldest first. In
one line for all, tracks that wait together would go on in turns and be answered together, the first as late as the last.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from app.domain import FloatArray


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
    waiting: bool = field(default=True)  # counted in the queue's load

    def wanted(self, now: float) -> bool:
        """Whether its caller still waits and its deadline has not passed."""
        return not self.future.done() and now < self.deadline


class WindowQueue:
    """Two deques and their load. Items leave the count at once, and their deque when they are taken."""

    def __init__(self, *, max_items: int, max_audio_seconds: float, on_load: Callable[[int, float], None]) -> None:
        """`on_load` is called with the number of items and seconds of audio after every change."""
        self._begun: deque[Item] = deque()
        self._first: deque[Item] = deque()
        self._on_load = on_load
        self.max_items = max_items
        self.max_audio_seconds = max_audio_seconds
        self.n_items = 0
        self.audio_seconds = 0.0

    def fits(self, n_items: int, audio_seconds: float) -> bool:
        return self.n_items + n_items <= self.max_items and self.audio_seconds + audio_seconds <= self.max_audio_seconds

    def put(self, item: Item) -> None:
        (self._begun if item.begun else self._first).append(item)
        self.n_items += 1
        self.audio_seconds += item.seconds
        self._on_load(self.n_items, self.audio_seconds)
        item.future.add_done_callback(lambda _: self._abandon(item))

    @property
    def oldest(self) -> Item | None:
        """The window that has waited longest and whose caller still waits."""
        waiting = (item for item in chain(self._begun, self._first) if item.waiting)
        return min(waiting, key=lambda item: item.enqueued_at, default=None)

    def take(self, most: int, now: float) -> tuple[list[Item], list[Item]]:
        """Up to `most` wanted items in their order, and the unwanted ones before them."""
        taken: list[Item] = []
        unwanted: list[Item] = []
        while len(taken) < most and (line := self._begun or self._first):
            item = line.popleft()
            self._leave(item)
            (taken if item.wanted(now) else unwanted).append(item)
        return taken, unwanted

    def clear(self) -> list[Item]:
        """Empty the queue and return its items."""
        items = [*self._begun, *self._first]
        self._begun.clear()
        self._first.clear()
        for item in items:
            self._leave(item)
        return items

    def _abandon(self, item: Item) -> None:
        if item.waiting:  # its caller left: the item stays in the deque for a while, its samples need not
            item.samples = _NOTHING
            self._leave(item)

    def _leave(self, item: Item) -> None:
        if item.waiting:
            item.waiting = False
            self.n_items -= 1
            self.audio_seconds = self.audio_seconds - item.seconds if self.n_items else 0.0  # no drift
            self._on_load(self.n_items, self.audio_seconds)


_NOTHING: FloatArray = np.empty(0, np.float32)
