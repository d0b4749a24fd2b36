"""Songs from folders, lists, tables and NDJSON: every bad one is named, and the others come."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.catalogue.errors import FileUnreadable, InputUnreadable
from app.catalogue.files import read_file
from app.catalogue.rows import Row
from app.catalogue.sources import open_source


def rows_of(path: Path) -> list[Row]:
    return [row for row in open_source(str(path)).rows if row is not None]


def told(rows: list[Row]) -> list[Any]:
    """Title, or the code of what is wrong."""
    return [row.error.code if row.error else row.metadata.title for row in rows]


def test_a_quote_that_never_closes_costs_its_own_line(tmp_path: Path) -> None:
    lines = ["id,title", '1,"two\nlines, ""quoted"""', '2,"open', *[f"{n},good {n}" for n in range(3, 200)], "", "200,last"]
    (tmp_path / "songs.csv").write_text("\n".join(lines))
    rows = rows_of(tmp_path / "songs.csv")
    assert told(rows) == ['two\nlines, "quoted"', "row_malformed", *[f"good {n}" for n in range(3, 200)], "last"]
    assert rows[-1].id == "200"


def test_a_row_that_lost_its_id_takes_that_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "songs.csv").write_text('id,title\n1,a\n3,"open\n2,b\n,c\n')
    rows = rows_of(tmp_path / "songs.csv")
    assert [(row.id, row.error is None) for row in rows] == [("1", True), ("row 2", False), ("2", True), ("row 4", True)]


def test_rows_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "songs.csv").write_bytes(b'\xef\xbb\xbftitle,artist\na,b,c\ncaf\xe9,x\n5" disc,y\n"a"b,z\nlast\n')
    assert told(rows_of(tmp_path / "songs.csv")) == ["row_malformed", "row_malformed", '5" disc', "row_malformed", "last"]


def test_lyrics_are_a_column_of_many_lines(tmp_path: Path) -> None:
    verse = "\n".join(f'line "{n}"' for n in range(200))
    quoted = verse.replace('"', '""')
    (tmp_path / "songs.csv").write_bytes(f'title,lyrics\na,"{quoted}"\nb,\nc,"open\nd,x\n'.encode() + b"e,caf\xe9\n")
    rows = rows_of(tmp_path / "songs.csv")
    assert told(rows) == ["a", "b", "row_malformed", "d", "row_malformed"]
    assert [row.lyrics for row in rows if not row.error] == [verse, None, "x"]
    assert "lyrics is not UTF-8" in str(rows[-1].error)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ndjson"])
def test_a_cell_of_megabytes_is_one_cell(tmp_path: Path, suffix: str) -> None:
    long, path = "word " * 500_000, tmp_path / f"songs{suffix}"
    if suffix == ".ndjson":
        path.write_text(f'{{"title": "a", "note": "{long}"}}\n{{"title": "{long * 5}"}}\n{{"title": "b"}}\n')
    else:
        tab = "," if suffix == ".csv" else "\t"
        path.write_text(f"title{tab}note\na{tab}{long}\nb{tab}\n")
    rows = rows_of(path)
    assert told(rows) == ["a", *(["row_malformed"] if suffix == ".ndjson" else []), "b"]
    assert rows[0].cells["note"] == long
    assert rows[-1].id == str(len(rows))


@pytest.mark.parametrize("name", ["songs.tsv", "SONGS.TSV"])
def test_quotes_mean_nothing_in_a_tsv(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('title\tpath\n"open\tsub/a.mp3\nnext\t\n')
    first, second = rows_of(tmp_path / name)
    assert (first.metadata.title, first.path) == ('"open', tmp_path / "sub/a.mp3")
    assert (second.metadata.title, second.path, second.id) == ("next", None, "2")


def test_ndjson_lines_fail_alone(tmp_path: Path) -> None:
    (tmp_path / "songs.ndjson").write_text(
        '{"id": 7, "title": "a", "year": 1999}\n\nno json\n[1]\n{"title": null}\n{"title": "z"}'
    )
    source = open_source(str(tmp_path / "songs.ndjson"))
    rows = [row for row in source.rows if row is not None]
    assert told(rows) == ["a", "row_malformed", "row_malformed", None, "z"]
    assert (rows[0].id, rows[0].cells["year"], source.columns) == ("7", "1999", ["id", "title", "year"])


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["a", None], "year": [1, 2]}), tmp_path / "songs.parquet")
    source = open_source(str(tmp_path / "songs.parquet"))
    assert source.total == 2
    assert told([row for row in source.rows if row]) == ["a", None]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(InputUnreadable, match="not Parquet"):
        open_source(str(tmp_path / "broken.parquet"))


def test_a_row_of_parquet_that_python_cannot_hold_costs_only_itself(tmp_path: Path) -> None:
    years = pa.array([1, 2**45, 2], pa.timestamp("s"))
    pq.write_table(pa.table({"title": ["a", "b", "c"], "when": years}), tmp_path / "years.parquet")
    assert told(rows_of(tmp_path / "years.parquet")) == ["a", "row_malformed", "c"]
    text = pa.array([b"\xff", b"b"], pa.binary())
    latin = pa.Array.from_buffers(pa.string(), 2, text.buffers())
    pq.write_table(pa.table({"title": latin}), tmp_path / "latin.parquet")
    assert told(rows_of(tmp_path / "latin.parquet")) == ["row_malformed", "b"]


def test_damaged_parquet_and_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "songs.parquet"
    pq.write_table(pa.table([["a"], ["b"]], names=["title", "title"]), path)
    with pytest.raises(InputUnreadable, match="each once"):
        open_source(str(path))
    pq.write_table(pa.table({"title": ["a"] * 5000}), path)
    path.write_bytes(path.read_bytes()[:4] + bytes(40) + path.read_bytes()[44:])
    with pytest.raises(InputUnreadable, match="behind row 0"):
        rows_of(path)


def test_folders_and_lists(tmp_path: Path) -> None:
    music = tmp_path / "music"
    (music / "inner").mkdir(parents=True)
    for name in ("b.mp3", "a.FLAC", "notes.txt", ".part.mp3", "inner/c.ogg"):
        (music / name).write_bytes(b"")
    (music / os.fsdecode(b"\xe9\n.wav")).write_bytes(b"")
    (music / "inner" / "up").symlink_to(music)
    (tmp_path / "list.m3u").write_bytes(b"#EXTM3U\nmusic/b.mp3\r\nmusic/inner\n")
    walked = rows_of(music)
    names = [str(Path(row.id).relative_to(music)) for row in walked]
    assert names == ["a.FLAC", "b.mp3", "inner/c.ogg", "inner/up", "\\xe9\\n.wav"]
    assert [row.error.code for row in walked if row.error] == ["link_circle"]
    assert [row.path for row in rows_of(tmp_path / "list.m3u") if not row.error][:2] == [
        music / "b.mp3",
        music / "inner/c.ogg",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_rights_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert [row.error.code for row in rows_of(tmp_path) if row.error] == ["folder_unreadable"]


@pytest.mark.parametrize("name", ["missing.csv", "songs.doc", "empty.csv", "missing"])
def test_no_list_at_all_ends_in_a_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / "songs.doc").write_text("x")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputUnreadable):
        open_source(str(tmp_path / name))


def test_a_name_that_no_file_can_have_costs_only_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"")
    (tmp_path / "songs.m3u").write_bytes(b"x" * 5000 + b".mp3\n" + b"a\0b.mp3\na.mp3\n")
    rows = rows_of(tmp_path / "songs.m3u")
    assert [row.path.name[-7:] for row in rows if row.path] == ["xxx.mp3", "a\0b.mp3", "a.mp3"]
    for row in rows[:2]:
        assert row.path is not None
        with pytest.raises(FileUnreadable):
            read_file(row.path, 1)
