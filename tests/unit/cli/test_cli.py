"""The command line: errors with a remedy and exit code 1, help that teaches."""

from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from app.cli import main as cli

pytestmark = pytest.mark.usefixtures("tiny_environment")
runner = CliRunner()


def test_the_version_is_printed() -> None:
    assert runner.invoke(cli.app, ["--version"]).stdout.startswith("lrid-serve ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--port", "70000"], "port"),
        (["serve", "--device", "tpu"], "device"),
        (["identify", "x.wav", "--windows", "0"], "--windows"),
        (["identify"], "FILES"),
        (["sing"], "sing"),
    ],
)
def test_wrong_arguments_are_exit_code_2(arguments: Any, told: Any) -> None:
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert told.lower() in result.stderr.lower()


def test_errors_end_in_a_remedy_and_no_traceback(
    tmp_path: Path, files: Any, main: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(tmp_path / "nothing here"))
    code, _, told = main("identify", files["plain.mp3"])
    assert code == 1
    assert told.startswith("release_refused: no release 'lrid_net/1'")
    assert "lrid releases verify" in told
    assert "Traceback" not in told


def test_what_is_wrong_with_all_files_is_said_once(main: Any, files: Any) -> None:
    code, answers, told = main("identify", files["plain.mp3"], files["tagged.flac"], "--languages", "tlh")
    assert (code, answers) == (1, "")
    assert told.startswith("unknown_language: 'tlh' is not among")


def test_what_is_missing_is_said_in_a_line(tmp_path: Path, main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, answers, told = main("identify", tmp_path / "song.mp3", "--model", "none/1")
    assert (code, answers) == (1, "")
    assert told.startswith("release_refused: no release 'none/1' in the model store; found: ")
    code, _, told = main("score", tmp_path, "--output", tmp_path / "out.csv", "--server", "localhost:8000")
    assert code == 2
    assert "such as http://localhost:8000" in told
    monkeypatch.setenv("LRID_MODEL_STORE", str(tmp_path))
    for command in ("list", "verify"):
        code, _, told = main("releases", command)
        assert (code, told.splitlines()[0]) == (1, f"release_refused: no release in {tmp_path}")


def every_command(group: typer.Typer = cli.app, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    names = [command.name or getattr(command.callback, "__name__", "") for command in group.registered_commands]
    found = [(*path, name) for name in names]
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        found += every_command(inner.typer_instance, (*path, str(inner.name)))
    return found


@pytest.mark.parametrize("command", [(), *every_command()], ids=" ".join)
def test_help_teaches(command: Any) -> None:
    result = runner.invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert len(result.stdout.split("Usage:")[1]) > 300


def test_help_is_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Default: 2; with" in " ".join(runner.invoke(cli.app, ["identify", "--help"]).stdout.split())
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("identify", "score", "tag", "serve", "evaluate"):
        done = runner.invoke(cli.app, [command, "-h"])
        assert done.exit_code == 0
        assert max(map(cell_len, done.stdout.splitlines())) == 80
        assert "…" not in done.stdout, command


def test_help_shows_a_first_request() -> None:
    assert "curl -F audio=@song.mp3" in runner.invoke(cli.app, ["serve", "--help"]).stdout
    assert "lrid identify album/*.flac" in runner.invoke(cli.app, ["identify", "--help"]).stdout
