"""Shared by all tests: a tiny release."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Conversions of tiny networks are not worth keeping: none is kept below the temporary folder.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "lrid-tests")

# A busy machine is no defect of the code under test.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with one servable release, lrid_net/1. Read-only: tests that break a release make their own."""
    from tests.releases import write_release  # imports torch

    store = tmp_path_factory.mktemp("store")
    write_release(store)
    return store
