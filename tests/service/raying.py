"""Commands on a Ray that is started for them alone, on this machine's loopback. Nothing of Ray is imported in the tests."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.service.live import PATIENCE_SECONDS, ROOT, SETTINGS

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: see tests/README.md")
YAML = ROOT / "app/catalogue/ray/serve.yaml"
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray listens on loopback only
    "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1",  # not 3: each start of a replica takes seconds
}


def environment(store: Path, **settings: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LRID_")}
    named = {f"LRID_{name.upper()}": str(value) for name, value in settings.items()}
    return kept | SETTINGS | ENVIRONMENT | {"LRID_MODEL_STORE": str(store), "LRID_DECODE_WORKERS": "1"} | named


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def shipped(port: int, model: str, replicas: int) -> dict[str, Any]:
    """What is shipped for `serve deploy`, on a port of loopback, with this release in `user_config`, and small."""
    config: dict[str, Any] = yaml.safe_load(YAML.read_text(encoding="utf-8"))
    config["http_options"] |= {"host": "127.0.0.1", "port": port, "request_timeout_s": PATIENCE_SECONDS}
    (application,) = config["applications"]
    application["args"] = {"model": "lrid_net/1"}
    (deployment,) = application["deployments"]
    deployment["autoscaling_config"] |= {"min_replicas": replicas, "max_replicas": replicas}
    deployment |= {"user_config": {"model": model}, "health_check_period_s": 1}
    deployment["ray_actor_options"] = {"num_cpus": 1}
    return config


def score(given: Path, output: Path, store: Path, **settings: object) -> subprocess.Popen[str]:
    """`lrid score --ray local` with two workers, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", "score", str(given), "--output", str(output), "--ray", "local", "--workers", "2"],
        env=environment(store, **settings) | {"RAY_ADDRESS": "127.0.0.1:1"},  # of another Ray, which it leaves alone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=output.parent,
    )


def kill_a_worker(process: subprocess.Popen[str], title: str, busy_seconds: float) -> int:
    """SIGKILL for the first of Ray's processes with this title that has worked for so long; returns its id."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        for worker in psutil.Process(process.pid).children(recursive=True):
            try:
                if title in " ".join(worker.cmdline()) and worker.cpu_times().user > busy_seconds:
                    worker.kill()
                    return worker.pid
            except psutil.Error:
                continue
        time.sleep(0.1)
    raise AssertionError(f"no worker was busy: {process.communicate()[0]}")
