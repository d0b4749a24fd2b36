"""Short runs of `loadtest.fuzz`, with mutations and by the OpenAPI document, another seed every day; long ones by hand."""

import datetime
import os
import subprocess
import sys
from pathlib import Path

from loadtest import fuzz
from tests.service.live import ROOT, SETTINGS, LiveServer

SEED = datetime.date.today().toordinal()


def test_nearly_right_requests(tiny_store: Path) -> None:
    command = [sys.executable, "-m", "loadtest.fuzz", "--cases", "150", "--seed", str(SEED)]
    environment = os.environ | SETTINGS | {"LRID_MODEL_STORE": str(tiny_store)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_requests_by_the_openapi_document(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, max_windows=1, admin_keys=fuzz.ADMIN_KEY) as live:
        assert fuzz.schemathesis(live.wait_until_ready().port, cases=5, seed=SEED) == 0
