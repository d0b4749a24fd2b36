"""From `lrid serve` to ready, and the memory that it takes.

    python -m loadtest.ready            # about 1 min

The service is started several times, and beside each start a process that only imports what the service imports: what is
asked is the time beyond that. Memory is that of the process tree (pages that are shared counted once), once ready and after
clips on every core, beyond that of a process that imports torch and nothing else. Needs psutil.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import psutil

from loadtest.client import audio_request, run_round
from loadtest.servers import OURS, REPOSITORY, memory, server
from loadtest.sounds import encoded

READY_SECONDS, MEMORY_MB = 6.0, 1200.0  # what is asked
IMPORTS = (
    "import app.main, app.server.run, app.serving.loading, app.families.lrid_net.model, app.families.lrid_net_plus.model"
)
CLIPS, AT_ONCE = 16, 8


def seconds_to_import() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=REPOSITORY, check=True)
    return time.perf_counter() - started


def memory_of_torch_mb() -> float:
    """PSS of a process that has imported torch."""
    command = [sys.executable, "-c", "import torch; print(); import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pss_mb = memory(psutil.Process(process.pid)).pss_mb
        assert process.stdin is not None
        process.stdin.close()
    return pss_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    imports, ready, idle_mb, used_mb = [], [], [], []
    clips = [audio_request("/identify", encoded(30.0, seed, "MP3")) for seed in range(CLIPS)]
    for _ in range(options.starts):
        imports.append(seconds_to_import())
        started = time.perf_counter()
        with server(OURS, "/health/ready", LRID_DEVICE="cpu") as (port, process):
            ready.append(time.perf_counter() - started)
            idle_mb.append(memory(process).pss_mb)
            run_round(port, clips, AT_ONCE, 300)
            used_mb.append(memory(process).pss_mb)
    torch_mb = memory_of_torch_mb()
    total, importing = statistics.median(ready), statistics.median(imports)
    print(f"ready after {total:.2f} s, {importing:.2f} s imports: {total - importing:.2f} s (asked: {READY_SECONDS:g})")
    for when, values in (("once ready", idle_mb), (f"after {CLIPS} clips", used_mb)):
        used = statistics.median(values)
        print(f"{when}: {used:,.0f} MB, {used - torch_mb:,.0f} beyond torch's {torch_mb:,.0f} (asked: {MEMORY_MB:,.0f})")


if __name__ == "__main__":
    main()
