"""`lrid serve` with a device that does as it is told: `python -m tests.service.faulty serve`, by tests and loadtest.chaos.

Everything but `Engine.listen` is the real thing. Before each pass it writes down the peaks of the windows, one line a
window, and waits while the file `hold` exists. A window whose peak is one of `Mark`'s makes the pass go wrong. It can be
slowed without using the processor, so that its capacity is known and does not depend on what else the machine does. And
the loop that feeds it can be made to fail.
"""

import os
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from tests import audio_samples

FOLDER = "FAULTY_FOLDER"
RATE_HZ = 22_050


class Mark(Enum):
    """Peaks of the tones that make the device fail."""

    RAISE = 0.011
    NAN = 0.013
    TOO_FEW_ROWS = 0.015
    OUT_OF_MEMORY = 0.017  # unless the window is alone
    DIE = 0.019  # the thread ends without an answer
    HANG = 0.021
    NAN_EVERYWHERE = 0.023  # in the whole pass


class Device:
    """The test's side of the faulty device."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.environment = {FOLDER: str(folder)}

    def hold(self) -> None:
        """The next pass waits."""
        (self._folder / "hold").touch()

    def release(self) -> None:
        (self._folder / "hold").unlink(missing_ok=True)

    def pace(self, seconds_per_window: float) -> None:
        """From the next pass on; 0: back to normal. The network does not run then: the answers mean nothing."""
        new = self._folder / "pace.new"
        new.write_text(str(seconds_per_window))
        new.replace(self._folder / "pace")

    def break_loop(self) -> None:
        """The batching loop raises when it takes its next batch, once."""
        (self._folder / "break").touch()

    @property
    def passes(self) -> list[list[float]]:
        """Peaks of the windows of each pass so far."""
        file = self._folder / "passes"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        return [[float(peak) for peak in line.split()] for line in lines]

    def heard(self, peak: float) -> bool:
        """Whether a window of that peak reached the device."""
        return any(peak in peaks for peaks in self.passes)


def clip(peak: float, seconds: float = 1.0) -> bytes:
    """A tone that the device can tell from others by its peak, four decimals."""
    tone = audio_samples.tone(seconds, 440.0, RATE_HZ, 1, peak)
    return audio_samples.wav(tone, "FLOAT", RATE_HZ)


# --- the server's side ------------------------------------------------------------------------------------------------


def misbehaving(listen: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    n_features = 0

    def faulty(self: object, windows: list[np.ndarray]) -> np.ndarray:
        nonlocal n_features
        peaks = [round(float(np.abs(window).max()), 4) for window in windows]
        with (folder / "passes").open("a") as file:
            file.write(" ".join(map(str, peaks)) + "\n")
        while (folder / "hold").exists():
            time.sleep(0.01)
        pace = float((folder / "pace").read_text()) if (folder / "pace").exists() else 0.0
        if pace:
            time.sleep(pace * len(windows))
            return np.full((len(windows), n_features), 0.5, np.float32)
        rows = listen(self, windows)
        n_features = rows.shape[1]
        return spoilt(rows, peaks)

    return faulty


def spoilt(rows: np.ndarray, peaks: list[float]) -> np.ndarray:
    """What becomes of a pass with such peaks in it."""
    if Mark.RAISE.value in peaks:
        raise ValueError("told to fail")
    if Mark.OUT_OF_MEMORY.value in peaks and len(peaks) > 1:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if Mark.DIE.value in peaks:
        raise SystemExit
    if Mark.HANG.value in peaks:
        time.sleep(3600)
    if Mark.NAN_EVERYWHERE.value in peaks:
        return np.full_like(rows, np.nan)
    if Mark.TOO_FEW_ROWS.value in peaks:
        rows = rows[:-1]
    rows[[peak == Mark.NAN.value for peak in peaks][: len(rows)]] = np.nan
    return rows


def breakable(take: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    def breaking(*arguments: Any) -> Any:
        if (folder / "break").exists():
            (folder / "break").unlink()
            raise RuntimeError("the loop was told to fail")
        return take(*arguments)

    return breaking


def main() -> None:
    from app.cli.main import main as lrid
    from app.serving.engine import Engine
    from app.serving.queue import WindowQueue

    folder = Path(os.environ[FOLDER])
    Engine.listen = misbehaving(Engine.listen, folder)  # type: ignore[method-assign]
    WindowQueue.take = breakable(WindowQueue.take, folder)  # type: ignore[method-assign]
    lrid()


if __name__ == "__main__":
    main()
