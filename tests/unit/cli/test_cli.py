"""The command line: answers in a table and as JSON, errors with a remedy and exit code 1, help that teaches."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mutagen.flac
import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from app.catalogue.files import FileAnswer, read_file
from app.cli import main as cli
from app.cli.answers import AnswerLines
from app.errors import UploadTooLarge
from app.http.schemas import IdentifyResponse
from tests.audio_samples import flac, mp3, song, wav
from tests.releases import CODES, edit_manifest

pytestmark = pytest.mark.usefixtures("tiny_environment")
runner = CliRunner()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One that is not there, one MP3 without tags, one that is no audio, one FLAC with tags."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / name for name in ("missing.wav", "plain.mp3", "text.wav", "tagged.flac")}
    paths["plain.mp3"].write_bytes(mp3())
    paths["tagged.flac"].write_bytes(flac())
    tags: Any = mutagen.File(paths["tagged.flac"])
    tags["artist"], tags["title"] = "Édith Piaf", "La vie en rose"
    tags.save()
    paths["text.wav"].write_text("this is no audio")
    return paths


def identify(*arguments: Any, exit_code: int = 0) -> list[dict[str, Any]]:
    """The JSON lines of `lrid identify`."""
    result = runner.invoke(cli.app, ["identify", "--json", *map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def answers(tiny_environment: None, files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """By name of the file, in the order in which they came."""
    return {Path(answer["file"]).name: answer for answer in identify(*files.values(), exit_code=1)}


@pytest.fixture(scope="module")
def shown(tiny_environment: None, files: dict[str, Path]) -> Result:
    """The same in a pipe, with all that may be shown."""
    return runner.invoke(cli.app, ["identify", "--timeline", "--explain", *map(str, files.values())])


def test_json_is_the_body_of_the_service_and_the_file(answers: Any, files: Any) -> None:
    answer = dict(answers["plain.mp3"])
    assert answer.pop("file") == str(files["plain.mp3"])
    body = IdentifyResponse.model_validate(answer)
    assert sum(entry.probability for entry in body.languages) == pytest.approx(1, abs=1e-4)
    assert {entry.code for entry in body.languages} == set(CODES)
    assert body.modalities.audio.windows == 1
    assert body.modalities.text.reason == "not_given"


def test_tags_are_read_unless_metadata_is_given(answers: Any, files: Any) -> None:
    tagged = dict(answers["tagged.flac"]["modalities"]["text"])
    assert tagged.pop("values").keys() == {"artist", "title"}
    assert tagged == {"used": True, "reason": None, "fields": ["artist", "title"], "source": "tags"}
    given = identify(files["tagged.flac"], "--album", "Greatest Hits of the World")[0]["modalities"]["text"]
    assert given["fields"] == ["album"]


def test_several_files_are_answered_in_order_and_a_bad_one_costs_only_itself(answers: Any, files: Any) -> None:
    assert list(answers) == list(files)
    assert [answer.get("code") for answer in answers.values()] == ["file_unreadable", None, "audio_unknown_format", None]
    assert "permissions" in answers["missing.wav"]["remedy"]
    assert answers["plain.mp3"]["language"] in {*CODES, "und"}


def test_options_reach_the_answer(files: Any, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    long.write_bytes(wav(song(70.0, rate_hz=8000), rate_hz=8000))
    command = (long, "--artist", "Nena", "--windows", 2, "--languages", "de,en", "--timeline", "--explain")
    (answer,) = identify(*command)
    assert len(answer["timeline"]) == answer["modalities"]["audio"]["windows"] == 2
    assert {entry["code"] for entry in answer["languages"]} == {"de", "en"}
    assert answer["explanation"]["audio_only"]
    assert answer["explanation"]["text_only"]


def test_a_row_for_each_file_in_a_pipe(shown: Any) -> None:
    assert shown.exit_code == 1
    head, missing, plain, text, tagged = (line.split("\t") for line in shown.stdout.splitlines())
    assert head == ["file", "language", "probability", "next", "used", "error"]
    assert (missing[5], plain[5], text[5]) == ("file_unreadable", "", "audio_unknown_format")
    assert (plain[4], tagged[4]) == ("audio", "audio+text")
    assert plain[1] in {*CODES, "und"}
    assert 1 / len(CODES) <= float(plain[2]) <= 1
    assert plain[3].split()[0] in CODES


def test_timeline_explanation_and_errors_are_shown_beside_the_rows(shown: Any, files: Any) -> None:
    under = [line.split(": ", 1) for line in shown.stderr.splitlines()]
    assert list(dict(under)) == list(map(str, files.values()))
    told = {name: [line for file, line in under if file == str(path)] for name, path in files.items()}
    assert (len(told["missing.wav"]), len(told["text.wav"])) == (1, 1)
    assert any("0:00-" in line for line in told["tagged.flac"])
    assert any("audio alone: " in line for line in told["tagged.flac"])


def test_names_alone_need_no_file() -> None:
    (answer,) = identify("--artist", "Édith Piaf", "--title", "La vie en rose", "--top-k", 3)
    assert answer["file"] is None
    assert len(answer["languages"]) == 3
    assert answer["modalities"]["text"]["fields"] == ["artist", "title"]


def test_tags_can_be_left_alone(files: Any) -> None:
    assert identify(files["tagged.flac"], "--no-tags")[0]["modalities"]["text"]["source"] is None


def test_folders_are_walked_and_odd_names_shown(tmp_path: Path) -> None:
    inner = tmp_path / "music" / "[red]"
    inner.mkdir(parents=True)
    (inner / os.fsdecode(b"caf\xe9.wav")).write_bytes(wav(song(1.0)))
    (inner / "notes.txt").write_text("no song")
    (inner / "again").symlink_to(tmp_path / "music")
    result = runner.invoke(cli.app, ["identify", str(tmp_path / "music")])
    circle, song_row = (line.split("\t") for line in result.stdout.splitlines()[1:])
    assert song_row[0].endswith("[red]/caf\\xe9.wav")
    assert song_row[1] in {*CODES, "und"}
    assert circle[-1] == "link_circle"


def test_a_terminal_gets_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = AnswerLines()
    lines.show(FileAnswer(Path("歌" * 60 + ".mp3"), None, UploadTooLarge("the file is larger than 64 MB")))
    shown = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, shown)) <= 80
    assert shown[1].endswith("upload_too_large")
    assert "….mp3" in shown[1] or "…歌" in shown[1]


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


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """The entry point with these arguments: exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["lrid", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return run


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


@pytest.fixture(scope="module")
def broken_store(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1 is good, 2 has other weights than its hash says, 3 expects other answers, 4 has an unknown key."""
    store = tmp_path_factory.mktemp("broken")
    shutil.copytree(tiny_store / "lrid_net", store / "lrid_net")
    folders = {}
    for release in ("2", "3", "4"):
        folders[release] = Path(shutil.copytree(tiny_store / "lrid_net/1", store / "lrid_net" / release))
        edit_manifest(folders[release], partial(dict.update, release=release))
    (folders["2"] / "weights.safetensors").write_bytes(b"other weights")
    golden = json.loads((folders["3"] / "golden.json").read_text())
    golden["cases"][0]["probabilities"].reverse()
    (folders["3"] / "golden.json").write_text(json.dumps(golden))
    edit_manifest(folders["4"], lambda fields: fields.update(mood="blue"))
    return store


def test_releases_verify_names_what_is_wrong(broken_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(broken_store))
    result = runner.invoke(cli.app, ["releases", "verify"])
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines() if line.startswith("lrid_net/"))
    assert result.exit_code == 1
    assert lines["lrid_net/1"] == "good"
    assert "sha256" in lines["lrid_net/2"]
    assert "does not reproduce its own answers" in lines["lrid_net/3"]
    assert "mood" in result.stdout
    assert runner.invoke(cli.app, ["releases", "verify", "lrid_net/1"]).exit_code == 0


def test_releases_list_shows_the_good_and_the_broken(broken_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(broken_store))
    table = runner.invoke(cli.app, ["releases", "list"])
    assert table.exit_code == 0
    assert "refused" in next(line for line in table.stdout.splitlines() if "lrid_net/4" in line)
    found = [json.loads(line) for line in runner.invoke(cli.app, ["releases", "list", "--json"]).stdout.splitlines()]
    assert [entry["release"] for entry in found] == ["1", "2", "3", "lrid_net/4"]
    assert "mood" in found[3]["refused"]


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


def test_the_upload_limit_holds_for_files_too(files: Any) -> None:
    with pytest.raises(UploadTooLarge, match=r"0\.001 MB"):
        read_file(files["plain.mp3"], 1000)


# --- the command in a process of its own ------------------------------------------------------------------------------


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


def test_releases_are_listed_without_torch() -> None:
    code = "import sys; from app.cli.main import app; app(['releases', 'list'], standalone_mode=False); "
    code += "sys.exit(bool({'torch', 'numba', 'fastapi'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
