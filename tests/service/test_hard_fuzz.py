"""Short runs of `loadtest.fuzz`, with mutations and by the OpenAPI document, another seed every day; long ones by hand."""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.live import SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("way", [("--cases", "150"), ("--schemathesis", "--cases", "5")], ids=["mutations", "openapi"])
def test_nearly_right_requests(tiny_store: Path, way: tuple[str, ...]) -> None:
    seed = str(datetime.date.today().toordinal())
    command = [sys.executable, "-m", "loadtest.fuzz", *way, "--seed", seed]
    environment = os.environ | SETTINGS | {"LRID_MODEL_STORE": str(tiny_store)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
