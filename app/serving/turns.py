"""How fast work gets done here, and when those who were refused should come again."""

from __future__ import annotations

LONGEST_ADVICE_SECONDS = 60.0


class Pace:
    """Seconds from one piece of work done to the next while there is always more: what each one adds to the wait."""

    def __init__(self) -> None:
        self.seconds = 0.0  # smoothed; 0 as long as nothing was done
        self._since = 0.0

    def begin(self, now: float) -> None:
        """There is work again after a pause."""
        self._since = now

    def done(self, now: float) -> None:
        """One piece less."""
        seconds, self._since = now - self._since, now
        self.seconds += (seconds - self.seconds) * (0.2 if self.seconds else 1.0)


class Turns:
    """Numbers for those who are refused, handed out as at a counter.

    Told when the *next* place falls free, all of them would come back for that one. So every refused request takes its
    place in a line that exists on paper only and moves at the measured pace; its own turn is what it is told.
    """

    def __init__(self, most: float) -> None:
        """The line never grows beyond so many pieces of work: of those who were refused, not all come again."""
        self._most = most
        self._line = 0.0
        self._updated = 0.0

    def take(self, pieces: float, seconds_per_piece: float, now: float) -> float:
        """Seconds from `now` until room for so many more can be expected, behind all that were refused before."""
        due = (now - self._updated) / seconds_per_piece if seconds_per_piece > 0 else self._line
        self._updated = now
        self._line = min(max(self._line - due, 0.0) + pieces, self._most)
        return min(self._line * seconds_per_piece, LONGEST_ADVICE_SECONDS)
