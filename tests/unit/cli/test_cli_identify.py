"""`lrid identify`: answers in a table and as JSON."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from app.catalogue.files import FileAnswer, read_file
from app.cli import main as cli
from app.cli.answers import AnswerLines
from app.errors import UploadTooLarge
from app.http.schemas import IdentifyResponse
from tests.audio_samples import song, wav
from tests.releases import CODES

pytestmark = pytest.mark.usefixtures("tiny_environment")
runner = CliRunner()


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


def test_the_upload_limit_holds_for_files_too(files: Any) -> None:
    with pytest.raises(UploadTooLarge, match=r"0\.001 MB"):
        read_file(files["plain.mp3"], 1000)
