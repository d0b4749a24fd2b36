import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """`lrid score` leaves the handlers of SIGINT and SIGTERM as Python has them, not as pytest was started."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def tiny_environment(monkeypatch: pytest.MonkeyPatch, tiny_store: Path) -> None:
    """The commands use the tiny release, as every machine can run it."""
    settings = {"MODEL_STORE": str(tiny_store), "MODEL": "lrid_net/1", "DEVICE": "cpu", "PRECISION": "fp32"}
    for name, value in (settings | {"ENGINE": "torch", "DECODE_WORKERS": "1"}).items():
        monkeypatch.setenv(f"LRID_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")
