"""`lrid score` with a real release: names by several processes, audio by the ears, in one table."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.catalogue.here import Here
from app.catalogue.names import load_names
from app.catalogue.output import Output
from app.cli import main as cli
from app.cli.score import Meter, _run
from app.local import listener
from app.settings import Settings
from tests.audio_samples import song, wav

pytestmark = pytest.mark.usefixtures("tiny_environment")
runner = CliRunner()


def test_names_and_files_in_one_table(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(song(2.0)))
    (tmp_path / "songs.csv").write_text(
        "path,title,note\na.wav,,x\n,La vie en rose,y\nmissing.wav,,z\n,123,digits\n,,nothing\n", encoding="utf-8"
    )
    output = tmp_path / "out.csv"
    result = runner.invoke(cli.app, ["score", str(tmp_path / "songs.csv"), "--output", str(output)])
    assert result.exit_code == 0, result.output
    with output.open(newline="") as file:
        rows = {row["note"]: row for row in csv.DictReader(file)}
    assert {note: row["error"] for note, row in rows.items()} == {
        "x": "",
        "y": "",
        "z": "file_unreadable",
        "digits": "nothing_usable",
        "nothing": "nothing_given",
    }
    assert (rows["x"]["modalities"], float(rows["x"]["seconds"])) == ("audio", 2.0)
    asked = ["identify", "--json", "--title", "La vie en rose"]
    alone = json.loads(runner.invoke(cli.app, asked).stdout)
    assert (rows["y"]["language"], float(rows["y"]["probability"])) == (alone["language"], alone["probability"])
    assert "error file_unreadable: 1" in result.stdout
    again = runner.invoke(cli.app, ["score", str(tmp_path / "songs.csv"), "--output", str(output)])
    assert "5 rows were answered by earlier runs" in again.stdout


def test_what_ends_the_run_has_a_code(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["score", str(tmp_path / "none.csv"), "--output", str(tmp_path / "o.csv")])
    assert getattr(result.exception, "code", None) == "input_unreadable"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watch_even_if_it_was_ignored_at_the_start(tmp_path: Path, number: signal.Signals) -> None:
    settings = Settings()

    def here() -> Here:
        return Here(partial(listener, settings), partial(load_names, settings), 1)

    async def signalled() -> float:
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), number)
        started = time.monotonic()
        with closing(Output(tmp_path / "out.csv", ["id"])) as output:
            await asyncio.wait_for(_run(tmp_path, output, here, Meter(None)), 20)
        return time.monotonic() - started

    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert asyncio.run(signalled()) < 10
    finally:
        signal.signal(number, before)


def test_a_server_that_is_away_is_named_at_once_and_ctrl_c_ends_the_wait(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("title\nLa vie en rose\n")
    where = ["--output", str(tmp_path / "out.csv"), "--server", "http://127.0.0.1:9"]
    command = [sys.executable, "-m", "app.cli", "score", str(tmp_path / "names.csv"), *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "http://127.0.0.1:9 does not answer" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        assert running.stderr.readline() == "stopped; the same command goes on from here\n"
        assert running.wait(60) == 0
