"""An admin port beside the public one, and TLS with a self-made certificate."""

import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.meta.test_packaging import last_stage
from tests.service.live import PATIENCE_SECONDS, LiveServer, wait_until
from tests.service.problems import check_problem

GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate with")


def admin_port(live: LiveServer) -> int:
    """From the log."""

    def found() -> int | None:
        ports = [line["port"] for line in live.log_lines() if line["message"] == "admin port is open"]
        return ports[0] if ports else None

    return wait_until(found, live.text_of_log)


def test_metrics_and_admin_are_on_the_admin_port_alone(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, admin_port=0, admin_keys="admin") as live:
        live.wait_until_ready()
        swap: dict[str, Any] = {"json": {"model": "lrid_net/1"}, "headers": {"X-API-Key": "admin"}}
        check_problem(live.client.get("/metrics"), 404, "not_found")
        check_problem(live.client.post("/admin/releases", **swap), 404, "not_found")
        assert live.identify(json=GOOD).status_code == 200
        with httpx.Client(base_url=f"http://127.0.0.1:{admin_port(live)}", timeout=PATIENCE_SECONDS) as admin:
            assert 'lrid_requests_total{modalities="text",outcome="ok"} 1.0' in admin.get("/metrics").text
            assert admin.get("/health/ready").status_code == 200
            check_problem(admin.post("/admin/releases", json={"model": "lrid_net/1"}), 401, "unauthorized")
            assert admin.post("/admin/releases", **swap).status_code == 200
            check_problem(admin.post("/identify", json=GOOD), 404, "not_found")
        live.terminate()
        assert live.exit_code() == 0


def test_an_admin_port_that_is_taken_ends_the_start(server: LiveServer, tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, admin_port=server.port) as live:
        assert live.exit_code() == 3
        assert any("the admin port cannot be opened" in line["message"] for line in live.log_lines())


def self_made(folder: Path) -> tuple[Path, Path]:
    """Certificate for 127.0.0.1, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=lrid", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


def image_is_healthy(port: int, certificate: Path | None) -> bool:
    """What the image's own check says."""
    _, _, command = last_stage()["HEALTHCHECK"][0].partition(" CMD ")
    environment = os.environ | {"LRID_PORT": str(port), "LRID_TLS_CERTIFICATE": str(certificate or "")}
    return subprocess.run([sys.executable, *json.loads(command)[1:]], env=environment, check=False).returncode == 0


def test_the_image_is_healthy_where_it_answers(server: LiveServer) -> None:
    assert image_is_healthy(server.port, None)
    assert not image_is_healthy(1, None)


@needs_openssl
def test_https_alone_is_answered_with_a_certificate(tiny_store: Path, tmp_path: Path, clip: bytes) -> None:
    certificate, key = self_made(tmp_path)
    with LiveServer(tmp_path / "server", model_store=tiny_store, tls_certificate=certificate, tls_key=key) as live:
        trusting = ssl.create_default_context(cafile=certificate)
        with httpx.Client(base_url=f"https://127.0.0.1:{live.port}", verify=trusting, timeout=PATIENCE_SECONDS) as client:
            wait_until(lambda: client.get("/health/ready").status_code == 200)
            assert client.post("/identify", files={"audio": clip}, data=GOOD).status_code == 200
        assert image_is_healthy(live.port, certificate)
        with pytest.raises(httpx.RemoteProtocolError):
            live.client.get("/health")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"https://127.0.0.1:{live.port}/health")
        old = ssl.create_default_context(cafile=certificate)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("AES128-SHA")  # no forward secrecy
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{live.port}/health", verify=old)
