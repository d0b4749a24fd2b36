"""`lrid tag`: nothing is written unless asked for, and only where the answer is sure."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.catalogue.tags import open_tag
from app.cli import main as cli
from tests.audio_samples import RATE_HZ, container, flac, tone

runner = CliRunner()


@pytest.fixture
def songs(tiny_environment: None, tmp_path: Path) -> Path:
    folder = tmp_path / "songs"
    folder.mkdir()
    (folder / "a.flac").write_bytes(flac())
    return folder


def tag(*arguments: object) -> list[list[str]]:
    """Cells of the rows below the head."""
    result = runner.invoke(cli.app, ["tag", *map(str, arguments)])
    return [line.split("\t") for line in result.stdout.splitlines() if not line.startswith("file\t")]


def sure(songs: Path) -> Path:
    """A table of answers for all that is there."""
    table = songs.with_suffix(".csv")
    rows = [f"{path},fr,.9,\n" for path in sorted(songs.iterdir())]
    table.write_text("path,language,probability,error\n" + "".join(rows))
    return table


def test_a_dry_run_then_written_by_a_table_of_score_and_taken_back(songs: Path, tmp_path: Path) -> None:
    path, table, undo = songs / "a.flac", tmp_path / "languages.csv", tmp_path / "undo.jsonl"
    before = path.read_bytes()
    heard = tag(songs, "--least", "0")
    ((_, language, _, _, action),) = heard
    assert action == f"would write {language}"
    assert runner.invoke(cli.app, ["score", str(songs), "--output", str(table)]).exit_code == 0
    assert tag("--from", table, "--least", "0") == heard
    assert path.read_bytes() == before
    assert tag(songs, "--least", "0", "--undo-file", undo, "--write")[0][-1] == f"wrote {language}"
    assert open_tag(path).language == language
    assert [row[1] for row in tag("--undo", undo)] == ["as before"]
    assert path.read_bytes() == before


def test_not_sure_written_kept_overwritten_and_undone(songs: Path, tmp_path: Path) -> None:
    path, undo, table = songs / "a.flac", tmp_path / "undo.jsonl", sure(songs)
    before = path.read_bytes()
    assert tag("--from", table, "--least", "1", "--write")[0][-1] == "not sure"
    assert path.read_bytes() == before
    options = ["--from", table, "--undo-file", undo, "--write"]
    assert tag(*options)[0][-1] == "wrote fra"
    assert tag(*options)[0][-1] == "there already"
    open_tag(path).write("epo", path)
    assert tag(*options)[0][-2:] == ["epo", "kept"]
    assert tag(*options, "--overwrite")[0][-1] == "wrote fra"
    rows = tag("--undo", undo)
    assert [row[1] for row in rows] == ["as before", "tag_refused: the file has changed since"]


def test_a_file_that_cannot_be_tagged_costs_only_itself(songs: Path, tmp_path: Path) -> None:
    (songs / "b.au").write_bytes(container(tone(), "au", "pcm_s16be", RATE_HZ))
    (songs / "c.flac").write_text("no audio")
    rows = tag(songs, "--least", "0")
    assert [row[-1].split(":")[0].split(" ")[0] for row in rows] == ["would", "tag_refused", "audio_unknown_format"]


def test_a_dry_run_names_what_could_not_be_written(songs: Path) -> None:
    (songs / "link.flac").symlink_to(songs / "a.flac")
    (songs / "a.flac").chmod(0o440)
    rows = tag("--from", sure(songs))
    assert [row[-1] for row in rows] == ["tag_refused: the file is read-only"] * 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into every folder")
def test_a_dry_run_names_a_folder_without_the_right_to_write(songs: Path) -> None:
    table = sure(songs)
    songs.chmod(0o555)
    assert tag("--from", table)[0][-1] == "tag_refused: the folder of the file is read-only"
    songs.chmod(0o755)


def test_a_table_may_hold_errors_and_names_alone(songs: Path, tmp_path: Path) -> None:
    (songs / "b.flac").write_text("no audio")
    table, undo = tmp_path / "languages.csv", tmp_path / "undo.jsonl"
    table.write_text(
        f"id,path,language,probability,error\n1,{songs}/a.flac,zxx,.97,\n2,songs/b.flac,,,audio_corrupt\n3,,fr,.99,\n"
        f'4,songs/none.flac,fr,.99,\n5,{songs}/a.flac,fr,nan,\n6,{songs}/a.flac,fr,inf,\n7,/dev/zero,fr,.99,\n8,"open\n'
    )
    rows = tag("--from", table, "--write", "--undo-file", undo)
    assert [row[-1].split(":")[0] for row in rows] == [
        "wrote zxx",
        "not_answered",
        "tag_refused",
        "not_answered",
        "not_answered",
        "tag_refused",
        "row_malformed",
    ]
    assert open_tag(songs / "a.flac").language == "zxx"
    table.write_text("title\nx\n")
    result = runner.invoke(cli.app, ["tag", "--from", str(table)])
    assert "it lacks error, language, path, probability" in str(getattr(result.exception, "detail", ""))
