"""A real server process on a real port, and what the tests look at from outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.service.forked import ForkedProcess

T = TypeVar("T")
Process = ForkedProcess | subprocess.Popen[bytes]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240.0  # for anything that a busy machine can make slow

SETTINGS = {  # of every server here, unless a test says otherwise
    "LRID_MODEL": "lrid_net/1",  # what the stores of tests hold
    "LRID_DEVICE": "cpu",
    "LRID_PRECISION": "fp32",
    "LRID_TORCH_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "LRID_ENGINE": "torch",  # OpenVINO converts in a process of its own, which takes seconds
}


class LiveServer:
    """`lrid serve --port 0` in a process of its own. Use `with`."""

    def __init__(
        self, folder: Path, *, module: str = "app.cli", extra: Mapping[str, str] | None = None, **settings: object
    ) -> None:
        """`settings`: by the names of `app.settings.Settings`, e.g. model_store=..., max_windows=4.

        `extra`: other environment variables.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "log.jsonl"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LRID_")}
        environment |= SETTINGS | {f"LRID_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"PYTHONPATH": str(ROOT)} | dict(extra or {})
        self.log_path.write_bytes(b"")
        self.process = self._start(module, environment)
        self.port = int(self._wait_for_log(r"running on https?://127\.0\.0\.1:(\d+)")[1])
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_SECONDS)

    def _start(self, module: str, environment: Mapping[str, str]) -> Process:
        return ForkedProcess(module, environment, self.log_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    # --- requests -----------------------------------------------------------------------------------------------------

    def new_client(self) -> httpx.Client:
        """For a request of its own thread."""
        return httpx.Client(base_url=self.client.base_url, timeout=PATIENCE_SECONDS)

    def identify(self, **request: Any) -> httpx.Response:
        return self.client.post("/identify", **request)

    def ready(self) -> httpx.Response:
        return self.client.get("/health/ready")

    def wait_until_ready(self) -> Self:
        wait_until(lambda: self.ready().status_code == 200, self.text_of_log)
        return self

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name whose labels include `labels`; 0 if there is none."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.client.get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    # --- the process --------------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for the end."""
        return self.process.wait(PATIENCE_SECONDS)

    def peak_memory_mb(self) -> float:
        """Most resident memory that the server process ever had, in 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024 / 1e6

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    # --- the log ------------------------------------------------------------------------------------------------------

    def text_of_log(self) -> str:
        return self.log_path.read_text()

    def log_lines(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """Whole lines as objects, all or those of a request. Fails if a line is not JSON."""
        lines = [json.loads(line) for line in self.text_of_log().split("\n")[:-1]]
        return [line for line in lines if request_id is None or line.get("request_id") == request_id]

    def access_line(self, request_id: str) -> dict[str, Any]:
        """The one line that says how the request went; it is written after the answer was sent."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.log_lines(request_id) if line["logger"] == "lrid.access"]

        wait_until(found)
        (line,) = found()
        return line

    def _wait_for_log(self, pattern: str) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, f"the server ended:\n{self.text_of_log()}"
            return re.search(pattern, self.text_of_log())

        try:
            return wait_until(found, self.text_of_log)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise


class ColdServer(LiveServer):
    """`lrid serve` itself, which takes some seconds more to start."""

    def _start(self, module: str, environment: Mapping[str, str]) -> Process:
        command = [sys.executable, "-m", module, "serve", "--port", environment.get("LRID_PORT", "0")]
        folder = self.log_path.parent
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), cwd=folder
            )


def wait_until(holds: Callable[[], T | None], describe: Callable[[], str] = str, seconds: float = PATIENCE_SECONDS) -> T:
    """Poll until `holds()` is true; returns what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain. {describe()}"
        time.sleep(0.02)
    return value
