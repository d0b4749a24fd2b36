"""A virtual environment for each rival, on top of this one: torch and the service's own needs are shared, not downloaded."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

INSTALL_TIMEOUT_SECONDS = 900
_REASON_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python that has the rival, or the reason why there is none."""

    python: Path
    version: str = ""
    failure: str = ""


def this_environment() -> Environment:
    """For what needs nothing more."""
    return Environment(Path(sys.executable))


def prepare(folder: Path, requirements: tuple[str, ...]) -> Environment:
    """Make the environment in `folder` and install the first of `requirements` that can be; what is there is used again."""
    python = folder / "bin" / "python"
    name = requirements[0].partition("[")[0].partition("=")[0]
    if not python.exists():
        venv.create(folder, with_pip=True)
        _see_this_environment(python)
    if version := _version(python, name):
        return Environment(python, version)
    reason = ""
    for requirement in requirements:
        command = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-q", requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False)
        if done.returncode == 0:
            return Environment(python, _version(python, name))
        reason = reason or pip_reason(done.stderr)
    return Environment(python, failure=reason)


def pip_reason(stderr: str) -> str:
    """The first line in which pip says what is wrong."""
    lines = [line.strip() for line in stderr.splitlines()]
    said = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "pip said nothing")
    return said.removeprefix("ERROR:").strip()[:_REASON_CHARACTERS]


def _see_this_environment(python: Path) -> None:
    """A .pth file: a package of the new environment hides one of the same name here, everything else is found here."""
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    (Path(theirs) / "host.pth").write_text(sysconfig.get_path("purelib") + "\n")


def _version(python: Path, name: str) -> str:
    script = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=False).stdout.strip()
