import resource
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from app.lab.corpus.catalogue import read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.corpus.tables import read_table, write_table
from app.lab.errors import CorpusError

COLUMNS = ["path", "artist", "title", "language", "split"]
RECORDS = [
    {"path": "a.mp3", "artist": "Earth, Wind", "title": 'say "hi"', "language": "en", "split": "train"},
    {"path": "", "artist": "花", "title": "so\tmany\nlines", "language": "ja", "split": "valid"},
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new folder" / f"manifest{suffix}"
    write_table(path, COLUMNS, RECORDS)
    table = read_table(path)
    assert table.columns == COLUMNS
    first, second = table.records.values()
    assert first == RECORDS[0]
    assert second["title"] == ("so many lines" if suffix == ".tsv" else "so\tmany\nlines")
    assert [row.metadata.artist for row in read_catalogue(path, ["en", "ja"])] == ["Earth, Wind", "花"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_carriage_return_stays_in_its_cell(tmp_path: Path) -> None:
    path = write_table(tmp_path / "m.csv", ["title", "language"], [{"title": "two\rlines", "language": "en"}])
    assert path.read_bytes() == b'title,language\n"two\rlines",en\n'
    assert [*read_table(path).records.values()] == [{"title": "two\rlines", "language": "en"}]


def test_parquet_with_missing_and_other_cells(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    columns = {"title": ["a", None, "c"], "artist": [None, "x", ""], "language": ["en", "ja", "??"], "year": [1999, None, 3]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(CorpusError, match=r"m\.parquet, row 3: unknown label '\?\?'.*drop the row"):
        read_catalogue(path, ["en", "ja"])
    pyarrow.parquet.write_table(pyarrow.table(columns).slice(0, 2), path)
    first, second = read_catalogue(path, ["en", "ja"])
    assert (first.where, first.metadata.title, first.metadata.artist) == ("row 1", "a", None)
    assert (second.metadata.title, second.metadata.artist) == (None, "x")
    again = {"title": ["a", "b"], "artist": ["x", "x"], "language": ["en", "en"], "split": ["train", "valid"]}
    pyarrow.parquet.write_table(pyarrow.table(again), path)
    with pytest.raises(CorpusError, match=r"^row 2: artist 'x' is in split valid, and in train on row 1"):
        refuse_leaks(read_catalogue(path, ["en"]), ["en"])


def test_lines_are_those_an_editor_shows(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('title,label\n\n"two\nlines",en\nc,xx\n', encoding="utf-8")
    with pytest.raises(CorpusError, match="line 5: unknown label 'xx'"):
        read_catalogue(path, ["en"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.xlsx", b"", r"unknown kind of table; expected one of \.csv, \.parquet"),
        ("m.parquet", b"no parquet at all", "cannot be read"),
        ("m.tsv", b"title\tlabel\na\tb\ten\n", "line 2: 3 cells, but the header has 2"),
        ("m.csv", b'title,label\na,en\n"' + 30_000 * b"la la\n", "line 3: field larger.*131,072 characters"),
        ("m.csv", b"", "no column 'label' or 'language'; found"),
    ],
)
def test_what_is_no_table(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=says):
        read_catalogue(path, ["en"])


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_table(path, COLUMNS, RECORDS)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CorpusError, match=r"cannot be written .*free some disk"):
            write_table(path, COLUMNS, RECORDS * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.csv"]
