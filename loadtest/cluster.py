"""`lrid score --ray local`: how long it takes, and whether every song is answered once though a worker is killed.

    python -m loadtest.cluster MUSIC                      # a folder of songs, or any other input
    python -m loadtest.cluster songs.parquet --workers 1 --kill-after 0

Needs the extra `ray`. A worker is killed once it has worked for so many seconds of CPU. The exit code is 1 if a song is lost
or answered twice.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from app.catalogue.ray.songs import find_songs

WORKER = "MapWorker(MapBatches(Scorer))"  # in the title of its process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", help="input of `lrid score`, or Parquet with a column `id`")
    parser.add_argument("--workers", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--kill-after", type=float, default=6.0, help="CPU seconds; 0: none (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lrid-cluster-") as folder:
        output, started = Path(folder) / "answers", time.monotonic()
        command = [sys.executable, "-m", "app.cli", "score", options.songs, "--output", str(output)]
        process = subprocess.Popen([*command, "--ray", "local", "--workers", str(options.workers)], stdout=sys.stderr)
        if options.kill_after:
            kill_a_worker(process, options.kill_after)
            print(f"a worker was killed after {time.monotonic() - started:.0f} s")
        if process.wait():
            sys.exit(f"`lrid score` has ended with {process.returncode}")
        print(f"{time.monotonic() - started:.1f} s from start to end")
        sys.exit(not compared(ids_of(find_songs(options.songs, output).files), ids_of([output])))


def kill_a_worker(process: subprocess.Popen[bytes], cpu_seconds: float) -> None:
    """Send SIGKILL to the first worker that has used so much CPU."""
    while process.poll() is None:
        for worker in psutil.Process(process.pid).children(recursive=True):
            try:
                if WORKER in " ".join(worker.cmdline()) and worker.cpu_times().user > cpu_seconds:
                    worker.kill()
                    return
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.1)
    sys.exit("it was over before a worker could be killed")


def ids_of(files: list[Path] | tuple[Path, ...]) -> Counter[str]:
    """Counts the ids in Parquet files."""
    found: Counter[str] = Counter()
    for file in files:
        table = pq.read_table(file)
        found.update(map(str, table.column("id" if "id" in table.column_names else "path").to_pylist()))
    return found


def compared(given: Counter[str], answered: Counter[str]) -> bool:
    twice = sum(answered.values()) - len(answered)
    print(f"{len(given)} songs, {len(answered)} answered, {twice} of them twice, {len(given.keys() - answered.keys())} lost")
    return given == answered


if __name__ == "__main__":
    main()
