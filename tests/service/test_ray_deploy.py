"""`serve deploy` over REST to a Ray that `ray start` has started, on loopback and with a token, as operators do it."""

import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import psutil
import yaml

from tests.service.live import PATIENCE_SECONDS, wait_until
from tests.service.raying import environment, free_port, needs_ray, shipped

PROGRAMS = Path(sys.executable).parent


@needs_ray
def test_what_is_shipped_is_deployed(tmp_path: Path, tiny_store: Path) -> None:
    token = secrets.token_hex(16)
    told = environment(tiny_store) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    dashboard, port = f"http://127.0.0.1:{(at := free_port())}", free_port()
    start = [str(PROGRAMS / "ray"), "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--num-cpus", "4"]
    ports = {"port": free_port(), "dashboard-port": at, "ray-client-server-port": free_port()}
    ports |= {"dashboard-agent-listen-port": free_port(), "min-worker-port": 0, "max-worker-port": 0}
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # short, as sockets lie in it; in Ray's own others would find this Ray
    options = [f"--{name}={value}" for name, value in ports.items()]
    with (tmp_path / "log").open("wb") as log:
        ray = subprocess.Popen(
            [*start, f"--temp-dir={folder}", "--dashboard-host=127.0.0.1", *options], env=told, stdout=log, stderr=log
        )
    try:
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_SECONDS) as client:
            wait_until(lambda: answers(client, f"{dashboard}/api/version"), (tmp_path / "log").read_text)
            (tmp_path / "serve.yaml").write_text(yaml.safe_dump(shipped(port, "lrid_net/1", replicas=1)), encoding="utf-8")
            deploy = [str(PROGRAMS / "serve"), "deploy", "--address", dashboard, str(tmp_path / "serve.yaml")]
            done = subprocess.run(deploy, env=told, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

            def status() -> str:
                found = client.get(f"{dashboard}/api/serve/applications/").json()["applications"]
                return f"{found['lrid']['status']} {found['lrid']['message']}" if "lrid" in found else ""

            wait_until(lambda: status().startswith("RUNNING"), status)
            body = client.post(f"http://127.0.0.1:{port}/identify", json={"title": "La vie en rose"}).json()
            assert (body["model"]["family"], body["model"]["release"]) == ("lrid_net", "1")
            assert httpx.get(f"{dashboard}/api/serve/applications/").status_code == 401
    finally:
        for process in [*psutil.Process(ray.pid).children(recursive=True), ray]:
            process.kill()
        ray.wait(PATIENCE_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.TransportError:
        return False
