"""`lrid score --ray local`: names and files by two processes of Ray, one of which is killed in the middle."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.catalogue.errors import InputUnreadable
from app.catalogue.ray.songs import find_songs
from tests.audio_samples import song, wav
from tests.service.live import PATIENCE_SECONDS, ROOT
from tests.service.raying import kill_a_worker, needs_ray, score

N_NAMES = 20_000  # ten batches: seconds of work for two processes


def rows_of(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output).to_pylist()
    return found


def finished(given: Path, output: Path, store: Path, **settings: object) -> tuple[int, str]:
    process = score(given, output, store, **settings)
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, said


@needs_ray
def test_nothing_is_lost_or_done_twice_when_a_worker_is_killed(tmp_path: Path) -> None:
    ids = [f"song {n}" for n in range(N_NAMES)]
    table = pa.table({"id": ids, "title": [f"La vie en rose {n}" for n in range(N_NAMES)], "note": list(range(N_NAMES))})
    pq.write_table(table, tmp_path / "songs.parquet")
    process = score(tmp_path / "songs.parquet", tmp_path / "out", ROOT / "model_store", model="lrid_voice/2")
    kill_a_worker(process, "MapWorker(MapBatches(Scorer))", busy_seconds=4.0)  # which it needs until the first answer
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert "infinite retries" in said  # it was killed while it worked
    rows = rows_of(tmp_path / "out")
    assert Counter(row["id"] for row in rows) == Counter(ids)
    assert all(row["note"] == int(row["id"].split()[1]) and row["language"] for row in rows)


@needs_ray
def test_a_bad_row_is_a_row_and_a_second_run_does_what_is_left(tmp_path: Path, tiny_store: Path) -> None:
    given, output = tmp_path / "songs.ndjson", tmp_path / "out"
    (tmp_path / "a.wav").write_bytes(wav(song(2.0)))
    (tmp_path / "b.wav").write_bytes(b"no audio")
    lines = [
        {"id": "heard", "path": "a.wav", "language": "mine"},
        {"id": "broken", "path": "b.wav"},
        {"id": "missing", "path": "c.wav"},
        {"id": "named", "title": "La vie en rose"},
        {"id": "digits", "title": "123"},
        {"id": "empty"},
        {"id": "named", "title": "again"},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines) + "no JSON\n"
    given.write_text(text, encoding="utf-8")
    code, said = finished(given, output, tiny_store)
    assert code == 0, said
    rows = {row["id"]: row for row in rows_of(output)}
    assert {name: row["error"] for name, row in rows.items()} == {
        "heard": "",
        "broken": "audio_unknown_format",
        "missing": "file_unreadable",
        "named": "",
        "digits": "nothing_usable",
        "empty": "nothing_given",
        "named#2": "row_duplicate",
        "8": "row_malformed",
    }
    assert (rows["heard"]["modalities"], rows["heard"]["seconds"], rows["heard"]["input_language"]) == ("audio", 2.0, "mine")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    given.write_text(text + json.dumps({"id": "new", "title": "Quand il me prend dans ses bras"}), encoding="utf-8")
    code, said = finished(given, output, tiny_store)
    assert code == 0, said
    assert Counter(row["id"] for row in rows_of(output)) == Counter([*rows, "new"])
    assert {name: data for name, data in before.items() if (output / name).read_bytes() != data} == {}


@needs_ray
def test_a_release_that_workers_do_not_have(tmp_path: Path, tiny_store: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "title": ["La vie en rose"]}), tmp_path / "songs.parquet")
    code, said = finished(tmp_path / "songs.parquet", tmp_path / "out", tiny_store, model="lrid_net/9")
    assert code == 1
    assert "release_unusable" in said.replace("\n", "") or "no release 'lrid_net/9'" in " ".join(said.split())


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"name": ["a"]}, "expected a column of album, artist, file, path, title; found name"),
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
