"""`tests.service.faulty` with two more ways to fail: slowness, which takes no CPU, and numbers spoilt all over a batch.

Started as `python -m tests.service.faulty_server serve`, by tests and by `loadtest.chaos`, which need a device whose
capacity is known and does not depend on what else the machine does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.service.faulty import FOLDER, Device, misbehaving

NAN_EVERYWHERE_PEAK = 0.023  # a window of this peak spoils the whole pass


class SlowDevice(Device):
    """The test's side."""

    def pace(self, seconds_per_window: float) -> None:
        """From the next pass on."""
        new = self._folder / "pace.new"
        new.write_text(str(seconds_per_window))
        new.replace(self._folder / "pace")


def slow(listen: Callable, folder: Path) -> Callable:
    def slowed(self: object, windows: list[np.ndarray]) -> np.ndarray:
        rows = listen(self, windows)
        if (folder / "pace").exists():
            time.sleep(float((folder / "pace").read_text()) * len(windows))
        peaks = [round(float(np.abs(window).max()), 4) for window in windows]
        return np.full_like(rows, np.nan) if NAN_EVERYWHERE_PEAK in peaks else rows

    return slowed


def main() -> None:
    from app.cli import main as lrid
    from app.serving.engine import Engine

    folder = Path(os.environ[FOLDER])
    Engine.listen = slow(misbehaving(Engine.listen, folder), folder)
    lrid()


if __name__ == "__main__":
    main()
