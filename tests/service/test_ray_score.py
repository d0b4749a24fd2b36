"""`lrid score --ray local`: names and files by two processes of Ray, one of which is killed in the middle."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.settings import Settings
from tests.audio_samples import song, wav
from tests.service.live import PATIENCE_SECONDS, ROOT
from tests.service.raying import kill_a_worker, needs_ray, score

N_NAMES = 100_000  # fifty batches: seconds of work for two processes, on a fast processor too


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
    process = score(
        tmp_path / "songs.parquet", tmp_path / "out", ROOT / "model_store", model=Settings.model_fields["model"].default
    )
    kill_a_worker(process, "MapWorker(MapBatches(Scorer))", busy_seconds=6.5)  # more than it needs to start
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert "infinite retries" in said  # it was killed while it worked
    rows = rows_of(tmp_path / "out")
    assert Counter(row["id"] for row in rows) == Counter(ids)
    assert all(row["note"] == int(row["id"].split()[1]) and row["language"] for row in rows)


@needs_ray
def test_a_second_run_does_what_is_left(tmp_path: Path, tiny_store: Path) -> None:
    given, output = tmp_path / "songs.csv", tmp_path / "out"
    (tmp_path / "a.wav").write_bytes(wav(song(2.0)))
    given.write_text("id,path,title\nheard,a.wav,\nmissing,b.wav,\nnamed,,La vie en rose\n", encoding="utf-8")
    code, said = finished(given, output, tiny_store)
    assert code == 0, said
    assert {row["id"]: row["error"] for row in rows_of(output)} == {"heard": "", "missing": "file_unreadable", "named": ""}
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with given.open("a", encoding="utf-8") as file:
        file.write("new,,Quand il me prend dans ses bras\n")
    code, said = finished(given, output, tiny_store)
    assert code == 0, said
    assert Counter(row["id"] for row in rows_of(output)) == Counter(["heard", "missing", "named", "new"])
    assert [name for name, data in before.items() if (output / name).read_bytes() != data] == []


@needs_ray
def test_a_release_that_workers_do_not_have(tmp_path: Path, tiny_store: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "title": ["La vie en rose"]}), tmp_path / "songs.parquet")
    code, said = finished(tmp_path / "songs.parquet", tmp_path / "out", tiny_store, model="lrid_net/9")
    assert code == 1
    assert "a worker has said: no release 'lrid_net/9' in the model store" in " ".join(said.split())
