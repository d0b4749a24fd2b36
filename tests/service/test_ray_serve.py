"""The service on a Ray Serve of its own, on loopback: two replicas, one release for another, one replica killed."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest
import yaml

from app.catalogue.ray.scaling import QUEUE_SECONDS, by_queue_seconds
from app.catalogue.ray.serve import settings_of
from app.settings import Settings
from tests.releases import write_release
from tests.service.live import PATIENCE_SECONDS, wait_until
from tests.service.raying import YAML, environment, free_port, kill_a_worker, needs_ray, shipped

DRIVER = Path(__file__).parent / "ray_serve_driver.py"
TITLE = "ServeReplica:lrid:Lrid"  # of a replica's process
GOOD = {"title": "La vie en rose"}


class Replicas:
    """Ray Serve in a process of its own, with what is shipped but for two replicas on a port of loopback."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._yaml = folder / "serve.yaml"
        self.port, self.metrics_port = free_port(), free_port()
        with (folder / "err").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(DRIVER), str(self.metrics_port)],
                env=environment(store),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_SECONDS)

    def deploy(self, model: str) -> dict[str, str]:
        """With this release in `user_config`; returns what came of it."""
        config = shipped(self.port, model, replicas=2)
        self._yaml.write_text(yaml.safe_dump(config), encoding="utf-8")
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self._yaml}\n")
        self.process.stdin.flush()
        line = next((line for line in self.process.stdout if line.startswith("{")), "{}")
        found: dict[str, str] = json.loads(line)
        return found

    def release(self) -> str:
        """That answers now."""
        found: str = self.client.post("/identify", json=GOOD).json()["model"]["release"]
        return found

    @contextmanager
    def asked(self) -> Iterator[list[int]]:
        """Requests one after the other while the block runs; the list gets their statuses."""
        statuses: list[int] = []
        ended = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=self.client.base_url, timeout=PATIENCE_SECONDS) as client:
                while not ended.wait(0.02):
                    statuses.append(client.post("/identify", json=GOOD).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        yield statuses
        ended.set()
        thread.join()

    def close(self) -> None:
        self.client.close()
        self.process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    store = tmp_path_factory.mktemp("store")
    write_release(store)
    write_release(store, release="2")
    started = Replicas(tmp_path_factory.mktemp("ray"), store)
    assert started.deploy("lrid_net/1")["status"] == "RUNNING"
    yield started
    started.close()


@needs_ray
def test_the_whole_service_answers(replicas: Replicas, clip: bytes) -> None:
    client = replicas.client
    by_names = client.post("/identify", json=GOOD, headers={"X-Request-Id": "mine"})
    assert (by_names.status_code, by_names.headers["x-request-id"]) == (200, "mine")
    heard = client.post("/identify", files={"audio": clip}).json()
    assert heard["modalities"]["audio"]["used"]
    refused = client.post("/identify", files={"audio": b"no audio"})
    assert (refused.status_code, refused.json()["code"]) == (415, "audio_unknown_format")
    assert client.get("/v2/models/lrid_net/ready").status_code == 200
    assert client.post("/admin/releases", json={"model": "lrid_net/2"}).status_code == 401  # user_config does that


@needs_ray
def test_metrics_of_all_replicas_are_among_rays(replicas: Replicas) -> None:
    for _ in range(8):
        replicas.client.post("/identify", json=GOOD)

    def both() -> set[str]:
        text = httpx.get(f"http://127.0.0.1:{replicas.metrics_port}/metrics").text
        return set(re.findall(r'ray_lrid_ready\{.*replica="([^"]+)".*\} 1\.0', text))

    assert len(wait_until(lambda: found if len(found := both()) == 2 else None)) == 2


@needs_ray
def test_one_release_for_another(replicas: Replicas) -> None:
    assert replicas.release() == "1"
    before = worker_ids(replicas)
    with replicas.asked() as statuses:
        assert replicas.deploy("lrid_net/2")["status"] == "RUNNING"
    assert {*statuses} == {200}
    assert {replicas.release() for _ in range(12)} == {"2"}
    assert worker_ids(replicas) == before  # none was restarted


@needs_ray
def test_a_killed_replica_is_replaced_while_the_other_answers(replicas: Replicas) -> None:
    killed = kill_a_worker(replicas.process, TITLE, busy_seconds=0)
    codes = [replicas.client.post("/identify", json=GOOD).status_code for _ in range(20)]
    assert codes.count(200) >= len(codes) - 1, codes  # one may be sent to it before Ray knows
    now = wait_until(lambda: found if len(found := worker_ids(replicas)) == 2 else None)
    assert killed not in now
    assert {replicas.release() for _ in range(12)} == {"2"}


@needs_ray
def test_a_release_that_is_not_there(replicas: Replicas) -> None:
    with replicas.asked() as statuses:
        found = replicas.deploy("lrid_net/9")
    assert {*statuses} == {200}
    assert found["status"] != "RUNNING"
    assert re.search(r"no release \W*lrid_net/9", found["message"])
    assert {replicas.release() for _ in range(12)} == {"2"}  # the last that was good
    assert replicas.deploy("lrid_net/1")["status"] == "RUNNING"
    assert {replicas.release() for _ in range(12)} == {"1"}


def worker_ids(replicas: Replicas) -> set[int]:
    children = psutil.Process(replicas.process.pid).children(recursive=True)
    return {child.pid for child in children if TITLE in " ".join(child.cmdline())}


def test_settings_that_ray_has_the_place_of() -> None:
    with pytest.raises(ValueError, match=r"of no use on Ray: port \(instead: http_options"):
        settings_of({"port": 80})
    with pytest.raises(ValueError, match="args: modle"):
        settings_of({"modle": "lrid_voice/1"})
    assert settings_of({"max_windows": 4}).max_windows == 4


def test_replicas_by_what_waits() -> None:
    def wanted(queues: list[float], requests: float) -> float:
        context = SimpleNamespace(
            aggregated_metrics={QUEUE_SECONDS: dict(enumerate(queues))} if queues else None,
            total_num_requests=requests,
            config=SimpleNamespace(get_target_ongoing_requests=lambda: 128.0),
            capacity_adjusted_min_replicas=2,
        )
        return by_queue_seconds(context)[0]

    assert wanted([], 0) == 2
    assert wanted([900.0, 900.0], 10) == 6
    assert wanted([0.0, 0.0], 512) == 4


@needs_ray
def test_what_is_shipped_has_no_unknown_keys(tmp_path: Path, tiny_store: Path) -> None:
    def checked(text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "serve.yaml"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "app.catalogue.ray.check", str(path)]
        return subprocess.run(command, env=environment(tiny_store), capture_output=True, text=True, check=False)

    text = YAML.read_text(encoding="utf-8").replace(Settings.model_fields["model"].default, "lrid_net/1")
    found = checked(text)
    assert (found.returncode, found.stdout) == (0, "nothing found that is wrong\n")
    unknown = (
        ("proxy_location", "proxy_loction", "proxy_loction: no such key"),
        ("max_replicas: 10", "max_replcas: 10", "autoscaling_config.max_replcas: no such key"),
        ("decode_workers: 2", "decode_worker: 2", "args: decode_worker: Extra inputs are not permitted"),
    )
    apart = (
        ("user_config: {model: lrid_net/1}", "user_config: {modle: lrid_net/1}", "user_config.modle: Extra inputs"),
        ("user_config: {model: lrid_net/1}", "user_config: {model: lrid_net/9}", "no release 'lrid_net/9'"),
        ("applications:", "applications", "not YAML"),
    )
    for mistakes in (unknown, *[(one,) for one in apart]):
        spoilt = text
        for good, bad, _ in mistakes:
            assert good in spoilt
            spoilt = spoilt.replace(good, bad)
        wrong = checked(spoilt)
        assert wrong.returncode == 1
        assert [says for _, _, says in mistakes if says not in wrong.stdout] == []
