"""The Dockerfile's own commands without an engine, in folders of a test, then the image's start and health check.

Dependencies are those of the tests' environment, as some 5 GB would be too much to install; no package index is asked.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from tests.meta.test_packaging import image_environment, instructions, last_stage
from tests.service.live import PATIENCE_SECONDS, ROOT, wait_until
from tests.service.test_hard_confined import CONFINE, can_confine
from tests.service.test_hard_connections import is_ready

BOUGHT = ("useradd", "TORCH_INDEX")  # steps that change the machine, or that another index is needed for
RELEASE: str = Settings.model_fields["model"].default


class Image:
    """Folders in the place of the image's, and its variables."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source, self.temporary = root / "src", root / "tmp"
        for folder in (self.source, self.temporary, root / "opt", root / "srv"):
            folder.mkdir(parents=True)
        self.environment = {name: self.moved(value) for name, value in image_environment().items() if name != "PATH"}
        self.environment |= {"PATH": f"{root}/opt/lrid/bin:{os.environ['PATH']}", "LRID_DEVICE": "cpu", "PIP_NO_INDEX": "1"}

    def moved(self, text: str) -> str:
        """The image's folders → those of the test."""
        return re.sub(r"(?<![\w/])/(opt/lrid|srv|tmp)\b", lambda found: f"{self.root}{found[0]}", text)

    def run(self, command: str) -> None:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.source,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

    def copy(self, arguments: str) -> None:
        *names, target = arguments.split()
        if names[0].startswith("--from"):
            return  # both stages are one here
        for name in names:
            if not (ROOT / name).is_dir():
                shutil.copy(ROOT / name, self.source)
            elif target == name:
                shutil.copytree(ROOT / name, self.source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copytree(ROOT / name / RELEASE, Path(self.moved(target)) / RELEASE)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Built by the Dockerfile's commands, with the default release alone."""
    made = Image(tmp_path_factory.mktemp("image"))
    for word, arguments in instructions():
        if word == "COPY":
            made.copy(arguments)
        if word == "RUN" and not any(name in arguments for name in BOUGHT):
            moved = made.moved(arguments)
            command = moved.replace("python -m venv", f"{sys.executable} -m venv --without-pip")
            made.run(command.replace("pip install", "pip install --no-build-isolation"))
            if command != moved:
                borrow(made.root / "opt/lrid")
    yield made
    shutil.rmtree(made.root)


def borrow(prefix: Path) -> None:
    """Packages of this environment, pip among them, but for ours, which is installed there as a link."""
    (site,) = prefix.glob("lib/python3*/site-packages")
    (site / "borrowed.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")


def test_what_is_installed_is_the_package(image: Image) -> None:
    code = "import app, sys; sys.exit(not app.__file__.startswith(sys.prefix))"
    image.run(f"cd {image.temporary} && python -c '{code}'")


def test_a_start_without_rights_compiles_and_converts_nothing(image: Image) -> None:
    """As user 10001 on a read-only tree where that can be had, with what would convert taken away."""
    (converter,) = image.root.glob("opt/lrid/lib/python3*/site-packages/app/families/parts/openvino_convert.py")
    converter.unlink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    entry = [image.moved(part) for part in json.loads(last_stage()["ENTRYPOINT"][0]) + json.loads(last_stage()["CMD"][0])]
    environment = image.environment | {"LRID_PORT": port, "LRID_HOST": "127.0.0.1"}
    if can_confine():
        user = last_stage()["USER"][-1].split(":")[0]
        environment |= {"WRITABLE": str(image.temporary), "REPOSITORY": str(image.root / "srv"), "USER_ID": user}
        entry = ["unshare", "--mount", "sh", "-c", CONFINE, "sh", *entry]
    with (image.root / "log").open("wb") as log:
        process = subprocess.Popen(entry, env=environment, stdout=log, stderr=log, cwd=image.root / "srv")
    try:
        _, _, check = last_stage()["HEALTHCHECK"][0].partition(" CMD ")
        command = json.loads(check)

        def answers() -> bool:
            assert process.poll() is None, (image.root / "log").read_text()
            return is_ready(int(port))

        wait_until(answers, (image.root / "log").read_text)
        subprocess.run(command, env=environment, check=True, timeout=PATIENCE_SECONDS)
    finally:
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    text = (image.root / "log").read_text()
    assert '"precision":"int8","engine":"openvino"' in text, text
