"""Server processes on loopback: start, wait, measure, stop."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
SERVE = ("-m", "app.cli", "serve", "--log-level", "warning")
START_SECONDS = 300.0
WAIT_SECONDS = 120.0
END_SECONDS = 40.0


class StartError(Exception):
    """The server ended or never became ready; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Processes:
    """A process and everything it started."""

    process: psutil.Process

    @property
    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all processes so far."""
        return float(sum(times.user + times.system for times in (member.cpu_times() for member in self.tree)))


@dataclass(frozen=True, slots=True)
class Server(Processes):
    """A running server."""

    port: int
    log: Path

    @property
    def decoders(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if "app.audio" in " ".join(child.cmdline())]

    @property
    def rss_mb(self) -> float:
        """Memory of the server process alone, in 10^6 bytes."""
        return float(self.process.memory_info().rss / 1e6)

    @property
    def tree_pss_mb(self) -> float:
        """Memory of all processes; shared pages count once."""
        return float(sum(member.memory_full_info().pss for member in self.tree) / 1e6)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def metric(self, name: str, *labels: str) -> float:
        """Sum of the samples of that name whose labels include all of `labels`, such as `outcome="ok"`."""
        lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        return sum(float(value) for found, value in lines if all(label in found for label in labels))

    def wait_until_idle(self) -> None:
        wait_until(lambda: self.metric("lrid_in_flight_requests") == 0)


@contextlib.contextmanager
def server(
    arguments: tuple[str, ...] = SERVE, health: str = "/health/ready", *, python: str = sys.executable, **environ: str
) -> Iterator[Server]:
    """Start `python ARGUMENTS --port P` and wait until `health` answers 200; end it with SIGTERM. Raises StartError."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended too
    with tempfile.TemporaryDirectory(prefix="lrid-load-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        log = Path(folder) / "log"
        command = [python, *arguments, "--port", str(port)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | environ
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=out, stderr=out)
        running = Server(psutil.Process(process.pid), port, log)
        try:
            _wait_until_ready(running, health, process)
            yield running
        finally:
            end(process, signal.SIGTERM)


def _wait_until_ready(running: Server, path: str, process: subprocess.Popen[bytes]) -> None:
    gives_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < gives_up_at:
        if process.poll() is not None:
            raise StartError(f"ended with {process.returncode}: {running.log.read_text(errors='replace')[-500:]}")
        try:
            if running.get(path)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise StartError(f"{path} did not answer 200 within {START_SECONDS:g} s")


def end(process: subprocess.Popen[bytes], by: signal.Signals) -> None:
    """End a process by a signal, and by SIGKILL if it has not ended after END_SECONDS."""
    process.send_signal(by)  # does nothing if the process has ended
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(holds: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Poll until `holds()` is true. Raises TimeoutError."""
    ends_at = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"what was waited for did not happen in {seconds:g} s")
        time.sleep(0.05)


def save(path: Path | None, found: object) -> None:
    """Write JSON, if a path is given."""
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n")


def say(text: str) -> None:
    """Print a line on standard error at once."""
    print(text, file=sys.stderr, flush=True)


def machine() -> str:
    """Processor, cores, memory, and the load average now."""
    model = ""
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        model = next((x.split(":")[1].strip() for x in cpuinfo.read_text().splitlines() if x.startswith("model name")), "")
    memory_gb = psutil.virtual_memory().total / 1e9
    return f"{model}, {os.cpu_count()} cores, {memory_gb:.0f} GB; load average at the end {os.getloadavg()[0]:.1f}"
