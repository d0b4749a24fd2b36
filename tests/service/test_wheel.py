"""The wheel, built and installed elsewhere: `lrid identify` and `lrid serve` without this repository.

Built by the setuptools that is installed (extra `test`): no package index is asked.
"""

import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from tests import audio_samples
from tests.service.live import PATIENCE_SECONDS, ROOT

SETUPTOOLS = 77  # the first that knows how the licence stands in pyproject.toml
pytestmark = pytest.mark.skipif(int(version("setuptools").split(".")[0]) < SETUPTOOLS, reason="setuptools is too old")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel holds, in a folder of its own; dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    unpacked = "--config-settings=--build-option=--compression=stored"  # weights get hardly smaller
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", unpacked, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 100e6
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def environment(installed: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LRID_")}
    # OpenVINO's conversion takes seconds, and test_image.py does it by an installed package.
    return kept | {"PYTHONPATH": str(installed), "LRID_PORT": "0", "LRID_ENGINE": "torch"} | settings


def lrid(installed: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(
        command, env=environment(installed, **settings), cwd=installed, capture_output=True, text=True, check=False
    )


def test_a_song_is_identified_with_the_release_inside(installed: Path, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(audio_samples.wav(audio_samples.song(12.0, 22_050, channels=1), rate_hz=22_050))
    done = lrid(installed, "identify", str(song), "--title", "La vie en rose")
    assert done.returncode == 0, done.stderr
    assert "song.wav" in done.stdout


def test_a_release_that_is_not_inside_is_named_with_what_to_do(installed: Path) -> None:
    done = lrid(installed, "identify", "--title", "La vie", LRID_MODEL="lrid_net/1")
    assert done.returncode != 0
    assert "set LRID_MODEL to one" in " ".join((done.stdout + done.stderr).split())
    done = lrid(installed, "identify", "--title", "La vie", LRID_MODEL_STORE=str(installed / "nowhere"))
    assert "set LRID_MODEL_STORE" in " ".join((done.stdout + done.stderr).split())


def test_the_server_answers_and_has_its_page(installed: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"], env=environment(installed), cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", timeout=PATIENCE_SECONDS) as client:
            while client.get("/health/ready").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.5)
            assert client.post("/identify", json={"title": "La vie en rose"}).json()["model"]["family"] == "lrid_voice"
            assert client.get("/web/page.js").headers["content-type"].startswith("text/javascript")
            assert "Which language" in client.get("/").text
    finally:
        server.terminate()
        server.wait(PATIENCE_SECONDS)
