"""`lrid score --watch`: files that come, grow and are replaced while it runs, and a kill in the middle. Nothing twice."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.audio_samples import song, wav
from tests.service.live import ROOT, SETTINGS, wait_until

# As a script starts it with `&`: SIGINT is ignored.
PROGRAM = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
PROGRAM += "import app.cli.score as s; s.WATCH_SECONDS = 0.5; from app.cli.main import app; app()"


@pytest.fixture
def environment(tiny_store: Path) -> Mapping[str, str]:
    return (
        os.environ
        | SETTINGS
        | {
            "LRID_MODEL_STORE": str(tiny_store),
            "LRID_DECODE_WORKERS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
        }
    )


def started(folder: Path, output: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, "score", "--watch", str(folder), "--output", str(output)]
    with output.with_name("said").open("ab") as said:
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said)


def ended(process: subprocess.Popen[bytes], said: Path) -> None:
    """Fails with the stack of every thread if the process does not end by itself."""
    try:
        assert process.wait(60) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler writes them
        process.wait()
        pytest.fail(said.read_text())


def rows(output: Path) -> dict[str, dict[str, str]]:
    """By name; fails if one is there twice."""
    if not output.exists():
        return {}
    with output.open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["error"] is not None]  # not one that is being written
    names = [Path(row["id"]).name for row in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def test_files_that_come_and_change_and_a_kill(tmp_path: Path, environment: Mapping[str, str]) -> None:
    music, output = tmp_path / "music", tmp_path / "out.csv"
    music.mkdir()
    (music / "there.wav").write_bytes(wav(song(2.0)))
    process = started(music, output, environment)
    try:
        wait_until(lambda: "there.wav" in rows(output))
        whole = wav(song(4.0))
        (music / "inner").mkdir()
        with (music / "inner" / "slow.wav").open("wb", buffering=0) as growing:
            for start in range(0, len(whole), 1 + len(whole) // 8):
                growing.write(whole[start : start + 1 + len(whole) // 8])
                (music / f"quick{start}.wav").write_bytes(wav(song(1.0)))
                time.sleep(0.2)
        (music / "there.wav").write_bytes(wav(song(3.0)))
        wait_until(lambda: len(rows(output)) == 10)
        assert rows(output)["slow.wav"]["seconds"] == "4.0"
        assert rows(output)["there.wav"]["seconds"] == "2.0"  # answered once
        (music / "last.wav").write_bytes(wav(song(2.0)))
        process.kill()
        process.wait()
        with output.open("ab") as file:
            file.write(b"half a r")
        process = started(music, output, environment)
        (music / "text.wav").write_text("no audio")
        wait_until(lambda: {"last.wav", "text.wav"} <= rows(output).keys())
        process.send_signal(signal.SIGINT)
        ended(process, tmp_path / "said")
        assert "the same command goes on from here" in (tmp_path / "said").read_text()
    finally:
        process.kill()
        process.wait()
    assert len(rows(output)) == 12
    assert rows(output)["text.wav"]["error"] == "audio_unknown_format"
