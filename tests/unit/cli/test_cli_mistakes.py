"""What a user may get wrong: each message says what is wrong and what to do."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli import main as cli
from app.server.run import check_certificate
from app.settings import Settings

pytestmark = pytest.mark.usefixtures("tiny_environment")

Told = Callable[..., tuple[object, str]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command beside some files; returns its exit code and its complaints in one line."""
    (tmp_path / "names.csv").write_text("title,artist\nLa vie en rose,Edith Piaf\n")
    (tmp_path / "names.ndjson").write_text('{"title": "La vie en rose"}\n')
    (tmp_path / "head.csv").write_text("title\n")
    (tmp_path / "semicolons.csv").write_text("title;artist\nLa vie en rose;Edith Piaf\n")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["lrid", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, " ".join(capsys.readouterr().err.replace("│", " ").split())

    return run


@pytest.mark.parametrize(
    ("command", "complaint", "remedy"),
    [
        ("score nowhere --output o.csv", "nowhere cannot be read: No such file or directory", "Give a folder"),
        ("score nowhere.csv --output o.csv", "nowhere.csv cannot be read: No such file or directory", "Give a folder"),
        ("score semicolons.csv --output o.csv", "expected a column of path, file, artist, album,", "found 'title;artist'"),
        ("score --watch names.csv --output o.csv", "--watch needs a folder; names.csv is none", "Give a folder"),
        ("score names.csv --output o.xlsx", "o.xlsx: the suffix should be .csv", "Give --output another name"),
        ("score names.csv --output head.csv", "head.csv has other columns", "Give --output another name"),
        ("score names.ndjson --output names.ndjson", "names.ndjson is the input itself", "Give --output another name"),
        (
            "tag --from names.csv",
            "it lacks error, language, path, probability",
            "Give --from a table that `lrid score` wrote",
        ),
        ("tag --from nowhere.csv", "nowhere.csv cannot be read", "Give --from a table that `lrid score` wrote"),
        ("tag --undo names.csv", "names.csv is no undo file", "Give --undo the file that `lrid tag --write`"),
        ("tag --undo nowhere", "nowhere cannot be read", "Give --undo the file that `lrid tag --write`"),
        ("identify --title x --model lrid_net/7", "no release 'lrid_net/7'", "`lrid releases list` shows them"),
        ("releases make names.csv 2 --data x", "names.csv is damaged or no checkpoint; name", "name another one"),
        ("releases make folder 2 --data x", "folder is damaged or no checkpoint (Is a directory)", "name another one"),
    ],
)
def test_an_error_and_its_remedy(told: Told, command: str, complaint: str, remedy: str) -> None:
    code, said = told(*command.split())
    assert code == 1, said
    assert complaint in said
    assert remedy in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("identify folder", "no audio files in folder"),
        ("tag folder", "no audio files in folder"),
        ("score folder --output o.csv", "folder holds no songs"),
        ("score head.csv --output o.csv", "head.csv holds no songs"),
    ],
)
def test_nothing_to_do_is_said(told: Told, command: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.local.local_identifier", None)  # no release is loaded for it
    code, said = told(*command.split())
    assert code in (0, None)
    assert complaint in said


def test_ctrl_c_before_a_command_has_begun(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert told("releases", "list") == (130, "")


def test_the_input_is_never_written_over(told: Told) -> None:
    before = Path("names.ndjson").read_bytes()
    told("score", "names.ndjson", "--output", "names.ndjson")
    assert Path("names.ndjson").read_bytes() == before


def test_a_wrong_setting_is_named_as_it_was_given(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--decode-workers: Input should be greater than" in told("serve", "--decode-workers", "0")[1]
    monkeypatch.setenv("LRID_PORT", "many")
    assert "LRID_PORT: Input should be a valid integer" in told("serve")[1]
    monkeypatch.setenv("LRID_CORS_ORIGINS", "example.org")
    monkeypatch.delenv("LRID_PORT")
    assert "LRID_CORS_ORIGINS: expected origins such as https://example.org" in told("serve")[1]


@pytest.mark.parametrize(("file", "reason"), [("nowhere.pem", "No such file or directory"), ("names.csv", "no PEM")])
def test_a_certificate_that_is_none_is_named(told: Told, file: str, reason: str) -> None:
    settings = Settings(tls_certificate=Path(file), tls_key=Path(file))
    with pytest.raises(OSError, match=f"LRID_TLS_CERTIFICATE={file} and LRID_TLS_KEY={file}: {reason}"):
        check_certificate(settings)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert f"cannot listen on 127.0.0.1, port {port}: choose others by LRID_HOST and LRID_PORT" in done.stderr
