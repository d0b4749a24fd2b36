"""Server processes on loopback: started, waited for, looked at, ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

OURS = ("-m", "app.cli", "serve", "--log-level", "warning")
PLAIN = ("-m", "uvicorn", "--factory", "loadtest.plain:create_app", "--log-level", "warning", "--no-access-log")
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process and all its children, in 10^6 bytes."""

    pss_mb: float  # now; pages that are shared count once over all
    peak_rss_mb: float  # sum of every process's own peak: more than was ever used at once


@contextmanager
def server(arguments: tuple[str, ...], health: str, **environ: str) -> Iterator[tuple[int, psutil.Process]]:
    """Start `python ARGUMENTS --port P`, wait until `health` answers 200, yield (P, process), end it with SIGTERM."""
    port = free_port()
    command = [sys.executable, *arguments, "--port", str(port)]
    with subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | environ) as process:
        try:
            _wait_until_ready(port, health, process)
            yield port, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(port: int, path: str, process: subprocess.Popen[bytes], timeout_seconds: float = 300) -> None:
    gives_up_at = time.monotonic() + timeout_seconds
    while time.monotonic() < gives_up_at:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
        if _answers_200(port, path):
            return
        time.sleep(0.2)
    raise RuntimeError(f"{path} did not answer 200 within {timeout_seconds:g} s")


def _answers_200(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def cpu_percent(process: psutil.Process, seconds: float) -> float:
    """Of one core, used by the process and its children over the next `seconds`."""
    before, started = _cpu_seconds(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu_seconds(process) - before) / (time.monotonic() - started)


def _cpu_seconds(process: psutil.Process) -> float:
    return sum(times.user + times.system for times in (member.cpu_times() for member in tree(process)))


def memory(process: psutil.Process) -> Memory:
    members = tree(process)
    peaks_kb = [_peak_rss_kb(member.pid) for member in members]
    return Memory(sum(member.memory_full_info().pss for member in members) / 1e6, sum(peaks_kb) * 1024 / 1e6)


def _peak_rss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0
