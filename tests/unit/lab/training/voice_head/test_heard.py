"""Recordings → songs to fit a head to: rows, names, groups, and clips of speech."""

from pathlib import Path

import numpy as np
import pytest

from app.domain import Metadata, Reading
from app.lab.corpus.catalogue import Row
from app.lab.errors import CorpusError
from app.lab.progress import Progress
from app.lab.training.voice_head.data import (
    NOTHING,
    SPEECH,
    clips_of,
    group_folds,
    read_heard,
    song_rows,
    songs_of,
    with_speech,
)

CODES = ("en", "zh", "others")


def test_the_language_counts_before_the_label(tmp_path: Path) -> None:
    lines = [
        "path,label,language,split", "a.wav,others,yue,", "b.wav,en,,", "c.wav,others,xx,train", "d.wav,instrumental,,",
        "e.wav,,zxx,", "f.wav,en,en,valid",
    ]  # fmt: skip
    (tmp_path / "songs.csv").write_text("\n".join(lines), encoding="utf-8")
    rows = song_rows(tmp_path / "songs.csv", CODES, Progress())
    assert [row.label for row in rows] == [1, 0, 2, 3, 3]


def test_a_catalogue_without_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "songs.csv").write_text("title,language\nOne,en\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no row of split train has audio"):
        song_rows(tmp_path / "songs.csv", CODES, Progress())


def read(metadata: Metadata) -> Reading:
    return Reading(np.array([0.5, 0.3, 0.2], np.float32), informative=metadata.title != "1984")


def row(artist: str | None, title: str, label: int, folder: str = "one") -> Row:
    return Row("line 1", Path(folder) / f"{title}.wav", Metadata(artist, None, title), label, "train", "")


def test_songs_are_grouped_by_artist_or_folder() -> None:
    rows = [row("Air", "a", 0), row("AIR ", "b", 3), row(None, "c", 1), row(None, "1984", 1, "two"), row(None, "e", 1)]
    windows = [np.full((n, 4), n, np.float32) for n in (2, 1, 0, 3, 1)]
    songs = songs_of(rows, windows, CODES, 3, read)
    assert songs.labels.tolist() == [0, NOTHING, 1, 1], "a silent song stays"
    assert songs.hidden.shape == (7, 3)
    assert songs.groups[0] == songs.groups[1]
    assert len(set(songs.groups.tolist())) == 3
    assert np.isnan(songs.names[:, 0]).tolist() == [False, False, True, False]


def test_speech_is_held_out_by_speaker() -> None:
    songs = songs_of([row(f"artist {i}", "a", i % 3) for i in range(6)], [np.ones((2, 4), np.float32)] * 6, CODES, 3, read)
    clips = [np.ones((1, 4), np.float32), np.zeros((0, 4), np.float32), *[np.ones((1, 4), np.float32)] * 3]
    both = with_speech(songs, ["anna", "anna", "ben", "ben", "carl"], clips)
    assert both.labels.tolist() == [*songs.labels.tolist(), *[SPEECH] * 4]
    assert both.known.tolist() == [True] * 6 + [False] * 4
    assert both.sung.all()
    folds = group_folds(both, 3, seed=0)
    assert folds[7] == folds[8]
    assert len({folds[6], folds[7], folds[9]}) == 3
    assert folds[:6].tolist() == group_folds(songs, 3, seed=0).tolist(), "speech moves songs to other folds"


def test_clips_are_of_as_many_speakers_as_there_are(tmp_path: Path) -> None:
    for name in ("anna/1.wav", "anna/2.wav", "ben/1.ogg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [Path(clip.metadata.artist or "").name for clip in clips_of(tmp_path, 3)] == ["anna", "ben", "anna"]
    index = ["file,speaker", "anna/1.wav,anna", "anna/2.wav,carl", "ben/1.ogg,anna"]
    (tmp_path / "index.csv").write_text("\n".join(index), encoding="utf-8")
    assert {clip.path for clip in clips_of(tmp_path, 2)} == {tmp_path / "anna/1.wav", tmp_path / "anna/2.wav"}


def test_a_folder_without_speech_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no recordings of speech"):
        clips_of(tmp_path, 3)


def test_an_artist_in_parentheses_is_no_name(tmp_path: Path) -> None:
    lines = ["language,artist,title,group,windows", "en,Air,Song,a,1", "en,(a choir),Song,b,1", "en,,,c,1"]
    (tmp_path / "index.csv").write_text("\n".join(lines), encoding="utf-8")
    np.savez(tmp_path / "windows.npz", hidden=np.ones((3, 3), np.float16))
    asked: list[Metadata] = []
    songs = read_heard(tmp_path, CODES, lambda names: asked.append(names) or read(names))  # type: ignore[func-returns-value]
    assert asked == [Metadata("Air", None, "Song")]
    assert np.isnan(songs.names[:, 0]).tolist() == [False, True, True]
