"""Shared by all tests: the repository on the path, and a tiny release."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # for `tests.releases` and `tests.audio_samples`


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with one servable release, lrid_net/1. Read-only: tests that break a release make their own."""
    from tests.releases import write_release

    store = tmp_path_factory.mktemp("store")
    write_release(store)
    return store
