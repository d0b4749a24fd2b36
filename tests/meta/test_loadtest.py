"""Every command of loadtest starts. They are tools, run by hand; `test_hard_fuzz` runs one of them for real."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("chaos", "cluster", "compare", "compare --field", "engine", "fuzz", "latency", "score", "soak", "throughput")


@pytest.mark.parametrize("command", COMMANDS)
def test_it_explains_itself(command: str) -> None:
    arguments = [sys.executable, "-m", *f"loadtest.{command}".split(), "--help"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"python -m loadtest.{command}" in done.stdout
