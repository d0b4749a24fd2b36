"""Shared by all tests: a tiny release."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Conversions of tiny networks are not worth keeping: none is kept below the temporary folder.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "lrid-tests")

# Small networks are slower on several threads, and ten times slower where other processes of tests have the cores: OpenMP's
# threads wait for each other by spinning. Read when torch is imported, which is later.
os.environ["OMP_NUM_THREADS"] = "1"

LONGEST = (  # they come first, so that no process is left alone with them at the end
    "service/test_wheel.py",
    "service/test_image.py",
    "service/test_hard_connections.py",
    "service/test_hard_overload.py",
    "service/test_hard_faults.py",
    "service/test_score_servers.py",
    "service/test_hard_swap.py",
    "unit/serving/test_replaced.py",
    "unit/families/parts/ngrams/test_reader.py",
    "unit/cli/test_cli_process.py",
    "unit/lab/training/test_lrid_net.py",
)

# A busy machine is no defect of the code under test.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process more than there are cores, as tests of servers mostly wait; 0, this process, where files are named."""
    return 0 if all(".py" in name for name in config.args) else min(8, 1 + len(os.sched_getaffinity(0)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with one servable release, lrid_net/1. Read-only: tests that break a release make their own."""
    from tests.releases import write_release  # imports torch

    store = tmp_path_factory.mktemp("store")
    write_release(store)
    return store
