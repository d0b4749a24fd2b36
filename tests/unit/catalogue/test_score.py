"""Rows in, rows out: what was answered is not asked again, whatever happened in between."""

import asyncio
import csv
import json
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.catalogue import score
from app.catalogue.errors import OutputFailed, ServerUnreachable
from app.catalogue.output import Output
from app.catalogue.rows import Row, Scored, columns_of
from app.catalogue.score import Scoring
from app.catalogue.summary import Summary
from app.domain import Metadata

COLUMNS = columns_of(["title", "language"])


class Initials:
    """Answers a title by its first letter; counts what it was asked."""

    files_at_once = groups_at_once = 2

    def __init__(self, most: int = 10**9) -> None:
        self.asked: list[str] = []
        self._most = most

    async def names(self, rows: Sequence[Row]) -> list[Scored]:
        if len(self.asked) + len(rows) > self._most:
            raise ServerUnreachable("gone")
        self.asked += [row.id for row in rows]
        await asyncio.sleep(0)
        return [Scored(str(row.metadata.title)[:1], 0.5, modalities="text") for row in rows]

    async def file(self, row: Row) -> Scored:
        self.asked.append(row.id)
        await asyncio.sleep(0.001)
        return Scored("zxx", 0.9, "en", 0.1, "audio", seconds=60.0, sung_seconds=0.0)


def songs(n: int, prefix: str = "song") -> Iterator[Row]:
    for i in range(n):
        yield Row(f"{prefix} {i}", Metadata(title=f"t{i}"), cells={"title": f't{i} "q"\n, x', "language": "en"})


def run(path: Path, rows: Iterator[Row], answerer: Initials | None = None) -> Scoring:
    output = Output(path, COLUMNS)
    scoring = Scoring(answerer or Initials(), output, lambda rows, errors: None)
    try:
        asyncio.run(scoring.run(rows))
    finally:
        output.close()
    return scoring


def read(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        return [{k: "" if v is None else str(v) for k, v in row.items()} for row in pq.read_table(path).to_pylist()]
    with path.open(newline="") as file:
        if path.suffix == ".ndjson":
            return [json.loads(line) for line in file]
        if path.suffix == ".tsv":
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ndjson", ".parquet"])
def test_a_run_that_was_cut_off_goes_on_and_repeats_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with pytest.raises(ServerUnreachable):
        run(path, songs(3000), Initials(most=1600))
    if suffix != ".parquet":
        with path.open("ab") as file:
            file.write(b'song 2999,"half a ro')  # as a kill leaves it
    again = Initials()
    scoring = run(path, songs(3000), again)
    assert scoring.skipped == 3000 - len(again.asked) > 0
    rows = read(path)
    assert sorted(row["id"] for row in rows) == sorted(row.id for row in songs(3000))
    first = next(row for row in rows if row["id"] == "song 0")  # rows stand as they were answered
    assert first["input_language"] == "en"
    assert first["language"] == "t"
    assert (first["title"] == 't0 "q"\n, x') == (suffix != ".tsv")
    assert scoring.summary.tracks == {"t": 3000}
    third = Initials()
    run(path, songs(3000), third)
    assert third.asked == []


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ndjson", ".parquet"])
def test_a_cell_of_megabytes_does_not_keep_a_run_from_going_on(tmp_path: Path, suffix: str) -> None:
    row, again = Row("a", Metadata(title="t"), cells={"title": "word " * 500_000}), Initials()
    run(tmp_path / f"out{suffix}", iter([row]))
    run(tmp_path / f"out{suffix}", iter([row]), again)
    assert again.asked == []


def test_a_carriage_return_stays_in_its_cell(tmp_path: Path) -> None:
    path, row = tmp_path / "out.csv", Row("a", Metadata(title="t"), cells={"title": "t\rx", "language": "en"})
    run(path, iter([row]))
    assert path.read_bytes().splitlines(keepends=True)[0].endswith(b"error\n")
    assert [(one["id"], one["title"]) for one in read(path)] == [("a", "t\rx")]
    assert run(path, iter([row])).skipped == 1


def test_two_rows_of_one_id_and_bad_rows_are_rows_with_a_code(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"

    def twice() -> Iterator[Row]:
        yield from songs(2)
        yield from songs(2)
        yield Row("file", Metadata(), Path("a.mp3"))

    for _ in range(2):
        scoring = run(path, twice())
        assert {row["id"]: row["error"] for row in read(path)} == {
            "song 0": "",
            "song 1": "",
            "song 0#2": "row_duplicate",
            "song 1#2": "row_duplicate",
            "file": "",
        }
    assert scoring.summary.errors == {"row_duplicate": 2}
    assert list(scoring.summary.lines()) == [
        "language     tracks   share     sung minutes   share",
        "t                 2  100.0%              0.0       -",
        "zxx               1       -              0.0       -",
        "error row_duplicate: 2",
    ]


def test_minutes_are_those_of_the_windows_that_are_sung(tmp_path: Path) -> None:
    def answer(language: str, **audio: object) -> Scored:
        uses = {"audio": {"used": True, "warnings": [], "seconds": 180.0, "windows": 3, "sung_windows": None} | audio}
        return Scored.of({"language": language, "probability": 0.9, "languages": [], "modalities": uses})

    answers = [answer("fr", sung_windows=2), answer("fr"), answer("en", sung_windows=1), answer("zxx", sung_windows=1)]
    assert [one.sung_seconds for one in answers] == [120.0, 180.0, 60.0, 0.0]
    told = Summary()
    for one in [*answers, answer("de", seconds=None, windows=0)]:
        told.count(one._asdict())
    again = Summary()
    for one in [*answers, answer("de", seconds=None, windows=0)]:
        again.count({name: "" if value is None else str(value) for name, value in one._asdict().items()})
    assert list(again.lines()) == list(told.lines())
    assert [line.split()[-2:] for line in told.lines()][1:] == [
        ["5.0", "83.3%"],
        ["0.0", "0.0%"],
        ["1.0", "16.7%"],
        ["0.0", "-"],
    ]


def test_an_output_of_other_columns_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(OutputFailed, match="other columns"):
        Output(path, COLUMNS)
    assert path.read_text() == "a,b\n1,2\n"
    with pytest.raises(OutputFailed, match="suffix"):
        Output(tmp_path / "out.doc", COLUMNS)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".csv", "my notes"),
        (".csv", "a,b\n1,2"),
        (".tsv", "my notes"),
        (".ndjson", "my notes"),
        (".ndjson", "my notes\n"),
        (".ndjson", "5\n"),
        (".ndjson", '{"id": "a", "title": "b"}\n{"id": "c"'),
    ],
)
def test_a_file_of_others_keeps_its_last_line(tmp_path: Path, suffix: str, content: str) -> None:
    """It would pass for a row that was cut off."""
    path = tmp_path / f"out{suffix}"
    path.write_text(content)
    with pytest.raises(OutputFailed, match="other columns"):
        run(path, songs(1))
    assert path.read_text() == content


def test_a_table_of_others_is_not_taken_apart(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "title": ["b"]}), tmp_path / "out.parquet")
    with pytest.raises(OutputFailed, match="other columns"):
        run(tmp_path / "out.parquet", songs(1))
    assert [one.name for one in tmp_path.iterdir()] == ["out.parquet"]


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files stands for the disk."""
    monkeypatch.setattr(score, "DISK_WAIT_SECONDS", 0.0)
    path = tmp_path / "out.csv"
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputFailed):
            run(path, songs(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    kept = read(path)
    assert 0 < len(kept) < 5000
    assert all(row["language"] == "t" for row in kept)
    run(path, songs(5000))
    assert len({row["id"] for row in read(path)}) == len(read(path)) == 5000
