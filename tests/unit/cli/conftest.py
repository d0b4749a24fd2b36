from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tiny_environment(monkeypatch: pytest.MonkeyPatch, tiny_store: Path) -> None:
    """The commands use the tiny release, as every machine can run it."""
    settings = {"MODEL_STORE": str(tiny_store), "MODEL": "lrid_net/1", "DEVICE": "cpu", "PRECISION": "fp32"}
    for name, value in (settings | {"ENGINE": "torch", "DECODE_WORKERS": "1"}).items():
        monkeypatch.setenv(f"LRID_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")
