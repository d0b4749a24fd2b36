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
        """From the next pass on; 0: back to normal. The network does not run then, so that the pace does not depend on the
        machine, and the answers mean nothing.
        """
        new = self._folder / "pace.new"
        new.write_text(str(seconds_per_window))
        new.replace(self._folder / "pace")


def slow(listen: Callable, folder: Path) -> Callable:
    n_features = 0

    def slowed(self: object, windows: list[np.ndarray]) -> np.ndarray:
        nonlocal n_features
        pace = float((folder / "pace").read_text()) if (folder / "pace").exists() else 0.0
        if pace:
            time.sleep(pace * len(windows))
            return np.full((len(windows), n_features), 0.5, np.float32)
        rows = listen(self, windows)
        n_features = rows.shape[1]
        peaks = [round(float(np.abs(window).max()), 4) for window in windows]
        return np.full_like(rows, np.nan) if NAN_EVERYWHERE_PEAK in peaks else rows

    return slowed


def main() -> None:
    from app.cli import main as lrid
    from app.serving.engine import Engine

    folder = Path(os.environ[FOLDER])
    Engine.listen = misbehaving(slow(Engine.listen, folder), folder)
    lrid()


if __name__ == "__main__":
    main()
