"""The command in a process of its own: full disks, closed outputs, encodings and signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("tiny_environment")
LRID = f'exec "{sys.executable}" -m app.cli'


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """A command that prints rows of a file with such a name, and is quick: answers are not looked for."""
    table = tmp_path / "languages.csv"
    table.write_text("path,language,probability,error\nさくら.mp3,fr,.99,\n", encoding="utf-8")
    return f'{LRID} tag --from "{table}"'


def printed(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_said_in_a_line(files: Any) -> None:
    done = printed(f"{LRID} identify {files['plain.mp3']} >/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "system_error: [Errno 28] No space left on device"


def test_any_name_can_be_written_to_any_encoding(rows: str) -> None:
    done = printed(rows, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "\\u3055\\u304f\\u3089.mp3\t" in done.stdout


def test_a_closed_output_is_no_error() -> None:
    done = printed(f"{LRID} identify --title 'La vie en rose' >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_ends_a_run_without_a_word(files: Any) -> None:
    command = [sys.executable, "-m", "app.cli", "identify", *[str(files["plain.mp3"])] * 200]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert (running.wait(60), running.stderr.read().strip()) == (1, b"")


def test_ctrl_c_ends_a_run_without_a_word(files: Any) -> None:
    # what a shell starts with `&` ignores SIGINT, and so does what that starts
    code = "import signal; signal.signal(2, signal.default_int_handler); from app.cli.main import main; main()"
    command = [sys.executable, "-c", code, "identify", "--json", *[str(files["plain.mp3"])] * 5000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.send_signal(signal.SIGINT)
        while running.stdout.read(65536):
            pass
        assert (running.wait(60), running.stderr.read().strip()) == (130, b"")
