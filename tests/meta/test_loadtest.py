"""Every command of loadtest starts. They are tools, run by hand; `test_hard_fuzz` runs one of them for real."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("chaos", "cluster", "compare", "compare --field", "engine", "latency", "score", "soak", "fuzz", "throughput")

EACH = """
import runpy, sys
for command in sys.argv[1:]:
    name, *options = f"loadtest.{command}".split()
    sys.argv = [name, *options, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print("\\0", command, "\\0", end.code, "\\0", sep="", end="")
"""


def test_they_explain_themselves() -> None:
    """In one process: torch, which two of them import, takes seconds."""
    done = subprocess.run([sys.executable, "-c", EACH, *COMMANDS], cwd=ROOT, capture_output=True, text=True, check=True)
    *told, rest = done.stdout.split("\0")
    assert (tuple(told[1::3]), set(told[2::3]), rest) == (COMMANDS, {"0"}, "")
    for command, text in zip(COMMANDS, told[::3], strict=True):
        assert f"python -m loadtest.{command}" in text
