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


@pytest.fixture(scope="module")
def tiny_environment(tiny_store: Path) -> Iterator[None]:
    """The commands use the tiny release, as every machine can run it."""
    settings = {"MODEL_STORE": str(tiny_store), "MODEL": "lrid_net/1", "DEVICE": "cpu", "PRECISION": "fp32"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (settings | {"ENGINE": "torch", "DECODE_WORKERS": "1"}).items():
            patch.setenv(f"LRID_{name}", value)
        patch.setenv("COLUMNS", "200")
        yield
