"""When those who were refused should come again: numbers handed out as at a counter.

Told when the *next* place falls free, all of them would come back for that one. So every refused request takes its place
in a line that exists on paper only and moves at the measured rate of the device; its own turn is what it is told.
"""

from __future__ import annotations


class Turns:
    """A leaky bucket of windows that were sent away and have not been due since."""

    def __init__(self, most_windows: float) -> None:
        """The line never grows beyond `most_windows`: who is refused then is told to come when it is worked off."""
        self._most_windows = most_windows
        self._windows = 0.0
        self._updated = 0.0

    def take(self, windows: float, seconds_per_window: float, now: float) -> float:
        """Seconds from `now` until room for `windows` more can be expected, behind all that were refused before."""
        due = (now - self._updated) / seconds_per_window if seconds_per_window > 0 else self._windows
        self._updated = now
        self._windows = min(max(self._windows - due, 0.0) + windows, self._most_windows)
        return self._windows * seconds_per_window
