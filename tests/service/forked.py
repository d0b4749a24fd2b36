"""`python -m MODULE serve` in a process forked from one that has imported everything: torch alone takes seconds."""

import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_IMPORTED = ["app.cli.main", "app.server.run", "app.serving.loading", "app.families.lrid_net.model", "numba"]
_IMPORTED += [f"app.families.{name}.manifest" for name in ("genre", "lrid_voice", "multimodal", "multitask", "tagging")]


class ForkedProcess:
    """As `subprocess.Popen`, as far as tests need it. The process has its own environment, folder and log."""

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        _import_once(environment["PYTHONPATH"])
        self._process = ForkServerProcess(target=_run, args=(module, dict(environment), log))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("serve", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # the id of a process that has ended may be another's
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _import_once(path: str) -> None:
    """Start the process that all others are forked from, unless it runs; `path`: where it finds the application."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = path
    try:
        multiprocessing.get_context("forkserver").set_forkserver_preload(_IMPORTED)
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        os.environ |= {} if before is None else {"PYTHONPATH": before}


def _run(module: str, environment: dict[str, str], log: Path) -> None:
    """In the new process."""
    gc.freeze()  # what was imported is never garbage: collections skip it
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the process it is forked from ignores it
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(log.parent)
    sys.argv = [module, "serve", "--port", environment.get("LRID_PORT", "0")]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
