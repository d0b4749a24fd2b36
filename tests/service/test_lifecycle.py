"""Loading, serving, draining, ending."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.faulty import Device, clip
from tests.service.live import ROOT, LiveServer, wait_until
from tests.service.problems import check_problem

N_IN_FLIGHT = 8


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


def start(tiny_store: Path, folder: Path, device: Device, **settings: object) -> LiveServer:
    return LiveServer(
        folder / "server", module="tests.service.faulty", extra=device.environment, model_store=tiny_store, **settings
    )


class Requests:
    """Requests in flight: their windows wait for a device that is held."""

    def __init__(self, live: LiveServer, device: Device, n: int = N_IN_FLIGHT) -> None:
        device.hold()
        self._pool = ThreadPoolExecutor(n)
        self.futures = [self._pool.submit(self._ask, live, 0.1 + 0.01 * i) for i in range(n)]
        wait_until(lambda: live.metric("lrid_queue_items") == n - 1)  # all but the one on the device

    @staticmethod
    def _ask(live: LiveServer, peak: float) -> httpx.Response:
        with live.new_client() as client:
            return client.post("/identify", files={"audio": clip(peak)})

    def results(self) -> list[httpx.Response]:
        self._pool.shutdown()
        return [future.result() for future in self.futures]


def test_from_loading_to_sigterm(tiny_store: Path, tmp_path: Path, device: Device) -> None:
    device.hold()  # golden.json cannot be replayed
    with start(tiny_store, tmp_path, device) as live:
        wait_until(lambda: device.passes)
        check_loading(live)
        device.release()
        live.wait_until_ready()
        assert live.metric("lrid_ready") == 1
        assert len(device.passes) == 2  # the cases of golden.json that have audio
        check_sigterm_under_load(live, device)
        assert all(line["level"] == "info" for line in live.log_lines())


def check_loading(live: LiveServer) -> None:
    """The port answers; requests are told to come back."""
    for path, status in {"live": 200, "ready": 503, "startup": 503}.items():
        response = live.client.get(f"/health/{path}")
        assert response.status_code == status
        body = response.json()
        assert (body["status"], body["ready"], body["model"]) == ("starting", False, None)
        assert body["reason"] == "the model is loading"
    for response in (live.identify(json={"title": "Bonjour"}), live.client.get("/languages")):
        check_problem(response, 503, "not_ready")
        assert int(response.headers["retry-after"]) >= 1
    assert live.metric("lrid_ready") == 0
    assert live.client.get("/models").json()["models"][0]["serving"] is False


def check_sigterm_under_load(live: LiveServer, device: Device) -> None:
    """Every accepted request is answered as if nothing had happened, nothing new is accepted, and the exit code is 0."""
    undisturbed = [live.identify(files={"audio": clip(0.1 + 0.01 * i)}).json() for i in range(N_IN_FLIGHT)]
    requests = Requests(live, device)
    children = live.children()
    live.terminate()
    wait_until_draining(live)
    with pytest.raises(httpx.ConnectError), live.new_client() as late:
        late.get("/health/live")
    device.release()
    for response, before in zip(requests.results(), undisturbed, strict=True):
        assert response.status_code == 200
        assert response.headers["connection"] == "close"
        assert response.json()["languages"] == before["languages"]
    assert live.process.wait(20) == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def wait_until_draining(live: LiveServer) -> None:
    wait_until(lambda: "Waiting for connections to close" in live.text_of_log())


def test_ended_while_loading(tiny_store: Path, tmp_path: Path, device: Device) -> None:
    device.hold()
    with start(tiny_store, tmp_path, device) as live:
        wait_until(lambda: device.passes)
        live.process.send_signal(signal.SIGINT)
        assert live.process.wait(20) == 0


def test_a_second_sigterm_ends_it(tiny_store: Path, tmp_path: Path, device: Device) -> None:
    with start(tiny_store, tmp_path, device) as live:
        requests = Requests(live.wait_until_ready(), device)
        live.terminate()
        wait_until_draining(live)
        time.sleep(0.5)
        assert live.process.poll() is None
        live.terminate()
        assert live.process.wait(10) == 0
    for response in requests.results():
        check_problem(response, 503, "draining")


def test_draining_is_bounded(tiny_store: Path, tmp_path: Path, device: Device) -> None:
    with start(tiny_store, tmp_path, device, drain_timeout_seconds=2) as live:
        requests = Requests(live.wait_until_ready(), device)
        started = time.monotonic()
        live.terminate()
        assert live.process.wait(20) == 0
        assert 1.5 < time.monotonic() - started < 12
    for response in requests.results():
        check_problem(response, 503, "draining")


def test_the_images_health_check(server: LiveServer) -> None:
    """As the Dockerfile has it: 0 where the server is ready, something else where none answers."""
    line = (ROOT / "Dockerfile").read_text().partition("HEALTHCHECK ")[2].partition(" CMD ")[2].partition("\n")[0]
    _, flag, code = json.loads(line)
    for port, healthy in ((server.port, True), (1, False)):
        environment = os.environ | {"LRID_PORT": str(port)}
        done = subprocess.run([sys.executable, flag, code], env=environment, capture_output=True, check=False)
        assert (done.returncode == 0) == healthy
