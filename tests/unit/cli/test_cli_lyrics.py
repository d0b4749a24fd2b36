"""`lrid identify --lyrics FILE` and `--lyrics-from-tags`; `lrid score` with a column of lyrics."""

import csv
import json
from pathlib import Path
from typing import Any

import mutagen.flac
import pytest
from typer.testing import CliRunner

from app.cli import main as cli
from tests.audio_samples import flac
from tests.voices import write_reading_voice

LYRICS = "Ich hab den Mantel noch an der Tür\nder Regen zählt jede Stufe\n"


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("voices")
    write_reading_voice(store)
    return store


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, voices: Path) -> None:
    settings = {"MODEL_STORE": str(voices), "MODEL": "lrid_voice/1", "DEVICE": "cpu", "PRECISION": "fp32"}
    for name, value in (settings | {"ENGINE": "torch", "DECODE_WORKERS": "1"}).items():
        monkeypatch.setenv(f"LRID_{name}", value)


def lyrics_use(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(cli.app, ["identify", "--json", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    use: dict[str, Any] = json.loads(line)["modalities"]["lyrics"]
    return use


def test_a_text_file_and_the_tags(tmp_path: Path) -> None:
    text, song = tmp_path / "song.txt", tmp_path / "song.flac"
    text.write_text("\ufeff" + LYRICS, encoding="utf-8")
    song.write_bytes(flac())
    tags = mutagen.flac.FLAC(song)  # type: ignore[no-untyped-call]
    tags["LYRICS"] = [LYRICS]
    tags.save()
    assert lyrics_use("--lyrics", text) == {"used": True, "reason": None, "source": "request"}
    assert lyrics_use(song, "--lyrics", text)["source"] == "request"
    assert lyrics_use(song, "--lyrics-from-tags") == {"used": True, "reason": None, "source": "tags"}
    assert lyrics_use(song)["reason"] == "not_given"


def test_a_table_with_lyrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song = tmp_path / "song.flac"
    song.write_bytes(flac())
    tags = mutagen.flac.FLAC(song)  # type: ignore[no-untyped-call]
    tags["LYRICS"] = [LYRICS]
    tags.save()
    files = [["heard", "song.flac", "", ""], ["read", "song.flac", "", LYRICS]]
    names = [["words", "", "", LYRICS], ["both", "", "Regen", LYRICS], ["long", "", "", "la" * 9000]]
    monkeypatch.setattr("app.local.cores", lambda: 1)  # processes for names, which import torch

    def used(songs: list[list[str]], *options: str) -> dict[str, str]:
        table, output = tmp_path / f"songs{len(options)}.csv", tmp_path / f"out{len(options)}.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["id", "path", "title", "lyrics"], *songs])
        result = CliRunner().invoke(cli.app, ["score", str(table), "--output", str(output), *options])
        assert result.exit_code == 0, result.output
        with output.open(newline="") as rows:
            return {row["id"]: row["modalities"] or row["error"] for row in csv.DictReader(rows)}

    written = {"words": "lyrics", "both": "text+lyrics", "long": "metadata_too_long"}
    assert used(files + names) == {"heard": "audio", "read": "audio+lyrics"} | written
    assert used(files, "--lyrics-from-tags") == {"heard": "audio+lyrics", "read": "audio+lyrics"}


def test_a_release_without_lyrics_and_lyrics_that_are_too_long(
    tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "song.txt"
    text.write_text("la" * 9000)
    long = CliRunner().invoke(cli.app, ["identify", "--json", "--lyrics", str(text)])
    assert (long.exit_code, json.loads(long.stdout)["code"]) == (1, "metadata_too_long")
    monkeypatch.setenv("LRID_MODEL_STORE", str(tiny_store))
    monkeypatch.setenv("LRID_MODEL", "lrid_net/1")
    text.write_text(LYRICS)
    refused = CliRunner().invoke(cli.app, ["identify", "--json", "--lyrics", str(text)])
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["detail"] == "this release reads no lyrics"
    unreadable = CliRunner().invoke(cli.app, ["identify", "--lyrics", str(tmp_path / "missing.txt")])
    assert unreadable.exit_code == 2
