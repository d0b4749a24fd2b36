"""Short runs of `loadtest.fuzz`, with mutations and by the OpenAPI document, another seed every day; long ones by hand."""

import datetime
import os
import subprocess
import sys
from pathlib import Path

from tests.service.live import ROOT, SETTINGS, LiveServer

SEED = str(datetime.date.today().toordinal())
ADMIN_KEY = "fuzz"  # loadtest.fuzz's
BY_DOCUMENT = "import sys; from loadtest.fuzz import schemathesis; sys.exit(schemathesis(*map(int, sys.argv[1:])))"


def run(store: Path, *arguments: str) -> None:
    environment = os.environ | SETTINGS | {"LRID_MODEL_STORE": str(store)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_nearly_right_requests(tiny_store: Path) -> None:
    run(tiny_store, "-m", "loadtest.fuzz", "--cases", "150", "--seed", SEED)


def test_requests_by_the_openapi_document(tiny_store: Path, tmp_path: Path) -> None:
    """A server of ours starts faster."""
    with LiveServer(tmp_path, model_store=tiny_store, max_windows=1, admin_keys=ADMIN_KEY) as live:
        run(tiny_store, "-c", BY_DOCUMENT, str(live.wait_until_ready().port), "5", SEED)
