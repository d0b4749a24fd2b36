"""app/ops/nginx.conf in a real nginx before a real server."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest
import uvicorn

from app.settings import Settings
from tests import audio_samples
from tests.service.live import LiveServer, wait_until
from tests.service.problems import check_problem

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
SNIPPET = (Path(__file__).resolve().parents[2] / "app/ops/nginx.conf").read_text()
KEY, GOOD = "a-key", {"title": "La vie en rose", "artist": "Édith Piaf"}
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
HIDDEN = ("/metrics", "/admin/releases", "/metrics/", "//metrics", "/health/../metrics", "/%6detrics")
BODY_SECONDS = 2  # instead of client_body_timeout

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here: apt-get install nginx-light")


class Proxy:
    """nginx in a process of its own, with nothing outside `folder`. Use `with`."""

    def __init__(self, folder: Path, server_port: int) -> None:
        assert NGINX is not None
        self.port = free_port()
        self.log_path = folder / "access.log"
        snippet = SNIPPET.replace("127.0.0.1:8000", f"127.0.0.1:{server_port}")
        snippet = snippet.replace("listen 8080", f"listen 127.0.0.1:{self.port}")
        snippet = snippet.replace("/var/log/nginx/lrid.log", str(self.log_path))
        snippet = snippet.replace("client_body_timeout 15s", f"client_body_timeout {BODY_SECONDS}s")
        folders = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
            f"events {{}}\nhttp {{ {folders}\n{snippet}\n}}\n"
        )
        command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, headers={"X-API-Key": KEY})
        wait_until(lambda: reachable(self.port), (folder / "error.log").read_text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(20)

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def reachable(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def live(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("behind")
    with LiveServer(folder, model_store=tiny_store, max_upload_mb=20, api_keys=f"{KEY},other") as live:
        yield live.wait_until_ready()


@pytest.fixture(scope="module")
def proxy(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("nginx"), live.port) as proxy:
        yield proxy


def test_names_and_songs_are_answered(proxy: Proxy, song: bytes) -> None:
    assert proxy.client.post("/identify", json=GOOD).json()["language"]
    assert proxy.client.post("/identify", files={"audio": song}).json()["modalities"]["audio"]["used"]


def test_a_large_upload_passes_and_touches_no_disk(proxy: Proxy) -> None:
    wave = audio_samples.wav(audio_samples.song(200.0, 44_100, channels=1), rate_hz=44_100)
    assert len(wave) > 15_000_000  # nginx's own limit is 1 MB
    assert proxy.client.post("/identify", files={"audio": wave}, data={"windows": "1"}).status_code == 200
    assert [path for path in (proxy.log_path.parent / "client_body").rglob("*") if path.is_file()] == []


def test_a_body_that_is_too_large_is_refused_by_the_service_in_its_own_form(proxy: Proxy) -> None:
    check_problem(proxy.client.post("/identify", files={"audio": bytes(30_000_000)}), 413, "upload_too_large")


def test_the_clients_request_id_is_in_the_answer_and_in_both_logs(proxy: Proxy, live: LiveServer) -> None:
    response = proxy.client.post("/identify", json=GOOD, headers={"X-Request-Id": "of-the-client"})
    assert response.headers["x-request-id"] == "of-the-client"
    assert live.access_line("of-the-client")["status"] == 200
    wait_until(lambda: "of-the-client" in [line["request_id"] for line in proxy.log()])  # written after the answer


@pytest.mark.parametrize("given", [None, 'no"good', "x" * 200])
def test_without_a_good_one_nginx_makes_one(proxy: Proxy, live: LiveServer, given: str | None) -> None:
    response = proxy.client.post("/identify", json=GOOD, headers={} if given is None else {"X-Request-Id": given})
    made = response.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert live.access_line(made)["status"] == 200
    wait_until(lambda: made in [line["request_id"] for line in proxy.log()])


def test_logs_hold_nothing_of_the_client(proxy: Proxy) -> None:
    made = proxy.client.post("/identify?top_k=3", json=GOOD).headers["x-request-id"]
    wait_until(lambda: made in proxy.log_path.read_text())
    assert "Piaf" not in proxy.log_path.read_text()
    assert "top_k" not in proxy.log_path.read_text()


def test_retry_after_passes(tiny_store: Path, tmp_path: Path) -> None:
    with (
        LiveServer(tmp_path / "server", model_store=tiny_store, api_keys=KEY, requests_per_minute=1) as live,
        Proxy(tmp_path, live.wait_until_ready().port) as proxy,
    ):
        assert proxy.client.post("/identify", json=GOOD).status_code == 200
        refused = proxy.client.post("/identify", json=GOOD)
        check_problem(refused, 429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 10


def test_a_client_that_stops_sending_is_cut_off_and_holds_nothing(proxy: Proxy, live: LiveServer) -> None:
    head = f"POST /identify HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: 9000000\r\n"
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
        while connection.recv(4096):
            pass
    assert BODY_SECONDS * 0.5 < time.monotonic() - started < 15
    wait_until(lambda: live.metric("lrid_in_flight_requests") == 0)
    assert live.metric("lrid_upload_bytes") == 0


@pytest.mark.parametrize(
    "path", ["/metrics", "/admin/releases", "/metrics/", "//metrics", "/health/../metrics", "/%6detrics"]
)
def test_what_is_the_operators_is_hidden(proxy: Proxy, path: str) -> None:
    url = httpx.URL(f"http://127.0.0.1:{proxy.port}").copy_with(raw_path=path.encode())
    response = proxy.client.get(url)
    assert response.status_code == 404
    assert "lrid_" not in response.text


def test_without_a_server_the_answer_is_a_problem_with_retry_after(tmp_path: Path) -> None:
    with Proxy(tmp_path, free_port()) as proxy:
        response = proxy.client.post("/identify", json=GOOD, headers={"X-Request-Id": "mine"})
        check_problem(response, 503, "not_ready")
        assert response.headers["retry-after"] == "2"
        assert response.headers["x-request-id"] == "mine"


def seconds(directive: str) -> float:
    found = re.search(rf"\b{directive} (\d+)s;", SNIPPET)
    assert found is not None
    return float(found[1])


def test_times_fit_those_of_the_service() -> None:
    keep_alive_seconds = uvicorn.Config("app").timeout_keep_alive
    assert seconds("keepalive_timeout") < keep_alive_seconds
    assert seconds("proxy_read_timeout") > Settings.model_fields["request_timeout_seconds"].default
