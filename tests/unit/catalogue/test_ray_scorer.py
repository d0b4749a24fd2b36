"""What a worker of Ray does with a table of songs, and how songs come to it. No Ray is needed."""

import json
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.catalogue.errors import InputUnreadable
from app.catalogue.ray.score import LOCAL, _ours, score, summarise
from app.catalogue.ray.scorer import Scorer
from app.catalogue.ray.songs import find_songs
from app.errors import PriorRefused, ReleaseError, ReleaseNotFound
from app.serving.options import Options
from app.settings import Settings
from tests.audio_samples import song, wav

LINES = [
    {"id": "heard", "path": "a.wav", "language": "mine"},
    {"id": "broken", "path": "b.wav"},
    {"id": "missing", "path": "c.wav"},
    {"id": "named", "title": "La vie en rose"},
    {"id": "digits", "title": "123"},
    {"id": "empty"},
    {"id": "named", "title": "again"},
]
ERRORS = {
    "heard": "",
    "broken": "audio_unknown_format",
    "missing": "file_unreadable",
    "named": "",
    "digits": "nothing_usable",
    "empty": "nothing_given",
    "named#2": "row_duplicate",
    "row 8": "row_malformed",
}


def settings(store: Path) -> Settings:
    return Settings(model_store=store, model="lrid_net/1", device="cpu", engine="torch", decode_workers=1, torch_threads=1)


def test_a_bad_row_is_a_row(tmp_path: Path, tiny_store: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(song(2.0)))
    (tmp_path / "b.wav").write_bytes(b"no audio")
    text = "".join(f"{json.dumps(line)}\n" for line in LINES) + "no JSON\n"
    (tmp_path / "songs.ndjson").write_text(text, encoding="utf-8")
    songs = find_songs(str(tmp_path / "songs.ndjson"), tmp_path / "out")
    (tmp_path / "out").mkdir()
    with closing(Scorer(settings(tiny_store), songs.folder, Options())) as scorer:
        answered = scorer(pq.read_table(songs.files[0]))
    pq.write_table(answered, tmp_path / "out/0.parquet")
    rows = {row["id"]: row for row in answered.to_pylist()}
    assert {name: row["error"] for name, row in rows.items()} == ERRORS
    assert (rows["heard"]["modalities"], rows["heard"]["seconds"], rows["heard"]["input_language"]) == ("audio", 2.0, "mine")
    summary = summarise(tmp_path / "out")
    assert (sum(summary.tracks.values()), sum(summary.errors.values())) == (2, 6)


def test_a_release_that_is_not_there(tmp_path: Path, tiny_store: Path) -> None:
    absent = settings(tiny_store).model_copy(update={"model": "lrid_net/9"})
    with (
        closing(Scorer(absent, tmp_path, Options())) as scorer,
        pytest.raises(ReleaseError, match="no release 'lrid_net/9'"),
    ):
        scorer(pa.table({"id": ["a"], "title": ["La vie en rose"]}))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"name": ["a"]}, "expected a column of album, artist, file, lyrics, path, title; found name"),
        ({"title": ["a"]}, "expected a column `id`"),
        ({"id": ["a", None], "title": ["b", "c"]}, "1 rows have no `id`"),
    ],
)
def test_parquet_without_the_columns(tmp_path: Path, columns: dict[str, list[str | None]], says: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "songs.parquet")
    with pytest.raises(InputUnreadable, match=says):
        find_songs(str(tmp_path / "songs.parquet"), tmp_path / "out")


def test_parts_with_different_columns(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    pq.write_table(pa.table({"id": ["a"], "title": ["a"]}), tmp_path / "songs/1.parquet")
    pq.write_table(pa.table({"id": ["b"], "artist": ["a"]}), tmp_path / "songs/2.parquet")
    with pytest.raises(InputUnreadable, match="other columns"):
        find_songs(str(tmp_path / "songs"), tmp_path / "out")
    (tmp_path / "songs/2.parquet").write_bytes(b"nothing")
    with pytest.raises(InputUnreadable, match="not Parquet"):
        find_songs(str(tmp_path / "songs"), tmp_path / "out")


def test_paths_are_ids_where_there_are_no_others(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.wav"]}), tmp_path / "songs.parquet")
    found = find_songs(str(tmp_path / "songs.parquet"), tmp_path / "out")
    assert (found.id_column, found.has_audio, found.folder) == ("path", True, tmp_path)


def test_nothing_is_started_for_input_that_is_none(tmp_path: Path, tiny_store: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputUnreadable, match="holds no songs"):
        find_songs(str(tmp_path / "empty"), tmp_path / "out")
    with pytest.raises(Exception, match=r"not installed|holds no songs"):
        score(settings(tiny_store), str(tmp_path / "empty"), tmp_path / "out", LOCAL, 2, Options())


@pytest.mark.parametrize("kind", [ReleaseError, ReleaseNotFound, PriorRefused])
def test_what_a_worker_says_of_a_release_keeps_its_kind(kind: type[ReleaseError]) -> None:
    told = f"ray::MapWorker failed\n  Traceback: 1 line\n{kind.__module__}.{kind.__name__}: it is wrong"
    found = _ours(RuntimeError(told))
    assert (type(found), found.detail) == (kind, "a worker has said: it is wrong")
