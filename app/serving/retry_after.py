"""Measures throughput and computes staggered Retry-After times."""

MAX_RETRY_AFTER_SECONDS = 60.0
# Clients that return at the full measured rate find no room as soon as anything takes a little longer than it was measured:
# three in four were accepted when told; seven in eight at this share of it (`loadtest.chaos --only retry_after`).
_SHARE_OF_RATE = 0.8


class Throughput:
    """Seconds per piece of work while there is always more to do: what each piece adds to the wait."""

    def __init__(self) -> None:
        self.seconds = 0.0  # smoothed; 0 until the first piece is done
        self._since = 0.0

    def begin(self, now: float) -> None:
        """Start measuring after a pause."""
        self._since = now

    def done(self, now: float) -> None:
        """Record that one piece is done."""
        seconds, self._since = now - self._since, now
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
