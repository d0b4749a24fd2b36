"""Measures throughput and computes staggered Retry-After times."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import NotReady

MAX_RETRY_AFTER_SECONDS = 60.0
# Clients that return at the full measured rate find no room as soon as anything takes a little longer than it was measured:
# three in four were accepted when told; seven in eight at this share of it (`loadtest.chaos --only retry_after`).
_SHARE_OF_RATE = 0.8


class Throughput:
    """Counts the pieces of work in progress, and measures what each adds to the wait while there is always more to do."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock`: in seconds; None: the running event loop's."""
        self.in_progress = 0
        self.seconds = 0.0  # per piece, smoothed; 0 until the first is done
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._since = 0.0  # the last piece was done, or the first began after a pause

    @contextmanager
    def piece(self) -> Iterator[None]:
        """One piece of work. How long it took does not count if NotReady ends it: the device was lost."""
        if not self.in_progress:
            self._since = self._clock()
        self.in_progress += 1
        lost = False
        try:
            yield
        except NotReady:
            lost = True
            raise
        finally:
            self.in_progress -= 1
            now = self._clock()
            seconds, self._since = now - self._since, now
            if not lost:
                self.seconds += (seconds - self.seconds) * (0.2 if self.seconds else 1.0)


class RetryAfter:
    """Staggers Retry-After times, so that rejected clients do not all return for the same free place.

    Each rejected request joins a virtual line that moves at most of the measured rate; its own turn is its Retry-After time.
    """

    def __init__(self, max_pieces: float) -> None:
        """`max_pieces` bounds the virtual line, because not every rejected client returns."""
        self._max_pieces = max_pieces
        self._line = 0.0
        self._updated = 0.0

    def take(self, pieces: float, seconds_per_piece: float, now: float) -> float:
        """Seconds from `now` until there should be room for `pieces` more, behind all requests rejected before."""
        seconds_per_piece /= _SHARE_OF_RATE
        due = (now - self._updated) / seconds_per_piece if seconds_per_piece > 0 else self._line
        self._updated = now
        self._line = min(max(self._line - due, 0.0) + pieces, self._max_pieces)
        return min(self._line * seconds_per_piece, MAX_RETRY_AFTER_SECONDS)
