"""`lrid score` with a real release: names by several processes, audio by the ears, in one table."""

import asyncio
import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import mutagen
import mutagen.id3
import pytest
from typer.testing import CliRunner

from app.catalogue.output import Output
from app.catalogue.rows import Row, Scored
from app.cli import main as cli
from app.cli.score import Meter, _run
from app.domain import Metadata
from app.errors import InternalError
from app.local import Here
from app.settings import Settings
from tests.audio_samples import song, wav
from tests.service.live import PATIENCE_SECONDS, wait_until

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


def test_tags_can_be_left_alone(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs/tagged.wav").write_bytes(wav(song(2.0)))
    tagged = mutagen.File(tmp_path / "songs/tagged.wav")
    tagged["TIT2"] = mutagen.id3.TIT2(text="La vie en rose")  # type: ignore[no-untyped-call]
    tagged.save()
    for options, modalities in (([], "audio+text"), (["--no-tags"], "audio")):
        output = tmp_path / f"out{len(options)}.ndjson"
        result = runner.invoke(cli.app, ["score", str(tmp_path / "songs"), "--output", str(output), *options])
        assert result.exit_code == 0, result.output
        assert json.loads(output.read_text())["modalities"] == modalities


def test_what_ends_the_run_has_a_code(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["score", str(tmp_path / "none.csv"), "--output", str(tmp_path / "o.csv")])
    assert getattr(result.exception, "code", None) == "input_unreadable"


class Cancelled(Here):
    """Its work is cancelled by a defect, although nothing ended the run."""

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        raise asyncio.CancelledError


def test_a_cancellation_without_a_signal_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> Here:
        return Cancelled(Settings())

    with closing(Output(tmp_path / "out.csv", ["id"])) as output, pytest.raises(InternalError, match="cancelled"):
        asyncio.run(_run([Row("1", Metadata(title="La vie en rose"))], output, make, Meter(None)))
    assert "stopped" not in capsys.readouterr().err


@contextmanager
def ignoring(number: signal.Signals) -> Iterator[None]:
    """Processes that are started meanwhile ignore the signal from their start."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def catches(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for this signal."""
    (mask,) = re.findall(r"SigCgt:\s+(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watch_even_if_it_was_ignored_at_the_start(tmp_path: Path, number: signal.Signals) -> None:
    where = ["--watch", str(tmp_path), "--output", str(tmp_path / "out.csv")]
    with ignoring(number):
        running = subprocess.Popen([sys.executable, "-m", "app.cli", "score", *where], stderr=subprocess.PIPE, text=True)
    with running:
        try:
            wait_until(lambda: running.poll() is not None or catches(running, number))
            running.send_signal(number)
            _, complaints = running.communicate(timeout=PATIENCE_SECONDS)
        finally:
            running.kill()
    assert running.returncode == 0, complaints
    assert complaints.startswith("stopped; the same command goes on from here\n")


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
