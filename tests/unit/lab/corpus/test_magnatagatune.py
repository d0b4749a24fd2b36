"""MagnaTagATune's own layout, a few clips of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.lab.corpus.catalogue import read_catalogue
from app.lab.corpus.check import check_corpus
from app.lab.corpus.magnatagatune import joined_names, read_magnatagatune
from app.lab.corpus.tags import most_frequent, tags_of, truth_of
from app.lab.errors import CorpusError

TAGS = ["classical", "clasical", "classic", "guitar", "no voice", "weird", "oboe"]
CLIPS = {  # mp3_path → tags
    "0/bach-air-0-29.mp3": {"clasical", "guitar"},
    "b/bach-air-29-58.mp3": {"classic", "classical", "no voice"},
    "c/satie-gnossienne-0-29.mp3": {"classical", "guitar"},
    "d/anonymous-tune-0-29.mp3": {"guitar", "no voice"},
    "f/anonymous-tune-29-58.mp3": {"oboe"},  # not popular
    "e/silence-0-29.mp3": set(),
    "1/lost-0-29.mp3": {"guitar"},  # no file
    "2/empty-0-29.mp3": {"guitar"},  # as three of the data set's own are
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "magnatagatune"
    lines, about = [["clip_id", *TAGS, "mp3_path"]], [["clip_id", "track_number", "title", "artist", "album", "mp3_path"]]
    for number, (place, tags) in enumerate(CLIPS.items()):
        lines.append([str(number), *(str(int(tag in tags)) for tag in TAGS), place])
        about.append([str(number), "1", f"Title {number}", f"Artist {number}", "Album", place])
        (folder / "mp3" / place).parent.mkdir(parents=True, exist_ok=True)
        if "lost" not in place:
            (folder / "mp3" / place).write_bytes(b"" if "empty" in place else b"x")
    for name, rows in (("annotations_final.csv", lines), ("clip_info_final.csv", about)):
        text = "".join("\t".join(f'"{cell}"' for cell in row) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_similar_tags_are_joined_and_the_most_popular_are_kept(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "songs.csv"
    report = read_magnatagatune(folder, output, n_tags=3)
    rows = read_catalogue(output, None)
    assert [(row.split, sorted(tags_of(row.cells))) for row in rows] == [
        ("train", ["classical", "guitar"]),
        ("train", ["classical", "no_vocal"]),
        ("valid", ["classical", "guitar"]),
        ("test", ["guitar", "no_vocal"]),
    ]
    assert rows[0].path is not None
    assert rows[0].path.resolve() == (folder / "mp3/0/bach-air-0-29.mp3").resolve()
    assert (rows[2].metadata.artist, rows[2].metadata.title) == ("Artist 2", "Title 2")
    assert report.left_out.startswith("7 tags, 5 after joining")
    assert report.left_out.endswith("left out: 2 clips without one of these tags, 2 without audio")
    assert report.split == "4 clips, split by folder"
    assert report.counts["train"] == {"guitar": 1, "classical": 2, "no vocal": 1}


def test_clips_may_lie_beside_the_lists_and_have_no_names(folder: Path, tmp_path: Path) -> None:
    for place in (folder / "mp3").iterdir():
        place.rename(folder / place.name)
    (folder / "clip_info_final.csv").unlink()
    report = read_magnatagatune(folder, output := tmp_path / "songs.tsv")
    assert report.split == "5 clips, split by folder"  # oboe is among the fifty
    assert read_catalogue(output, None)[0].metadata.fields == ()


def test_the_paper_s_example_and_every_spelling_once() -> None:
    names = joined_names()
    assert {names["clasical"], names["classic"]} == {"classical"}
    assert not names.keys() & set(names.values())  # nothing is joined twice


def test_what_is_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "songs.csv"
    annotations = folder / "annotations_final.csv"
    text = annotations.read_text(encoding="utf-8")
    annotations.write_text(text.replace("0/bach", "x/bach"), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"clip 0: mp3_path 'x/bach-air-0-29.mp3' is in none of the folders 0 to f"):
        read_magnatagatune(folder, output)
    annotations.write_text(text.replace("clip_id", "id"), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"no column clip_id; found id, classical, .*Expected MagnaTagATune's own file"):
        read_magnatagatune(folder, output)
    annotations.unlink()
    with pytest.raises(CorpusError, match=r"annotations_final.csv cannot be read .* expected the folder of MagnaTagATune"):
        read_magnatagatune(folder, output)
    output.touch()
    with pytest.raises(CorpusError, match="exists; choose another name, or --force"):
        read_magnatagatune(folder, output)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "songs.csv")
    done = CliRunner().invoke(app, ["corpus", "magnatagatune", str(folder), "--output", output, "--n-tags", "3"])
    assert done.exit_code == 0, done.output
    assert "7 tags, 5 after joining those that say the same" in done.output
    assert "left out: 2 clips without one of these tags, 2 without audio" in done.output
    checked = CliRunner().invoke(app, ["corpus", "check", output, "--no-audio", "--column", "tags"])
    assert checked.exit_code == 1
    assert "the only row to train class 'guitar'" in checked.output


def test_made_clips_are_the_same_in_every_process(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from app.lab.corpus.made.tagging import make; "
    code += "make(Path(sys.argv[1]), 0, rounds=1, seconds=0.1)"
    made = []
    for seed in ("1", "2"):  # of the order of sets
        folder = tmp_path / seed
        subprocess.run([sys.executable, "-c", code, str(folder)], env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
        made.append({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert made[0] == made[1]


def test_a_row_counts_for_each_of_its_tags(tmp_path: Path) -> None:
    catalogue = tmp_path / "m.csv"
    catalogue.write_text("title,split,tags\na,train,Rock; Female Voice\nb,train,rock\nc,valid,\nd,valid,female voice\n")
    rows = read_catalogue(catalogue, None)
    assert [(tag.code, tag.name) for tag in most_frequent(row.cells for row in rows)] == [
        ("female_voice", "Female Voice"),
        ("rock", "Rock"),
    ]
    assert truth_of([row.cells for row in rows], ["rock", "female_voice"]).tolist() == [[1, 1], [1, 0], [0, 0], [0, 1]]
    found = check_corpus(catalogue, ["rock", "female_voice"], decode=None, column="tags")
    assert found.counts["train"] == {"rock": 2, "female_voice": 1}
    assert (found.rows, [finding.kind for finding in found.findings]) == (4, ["tag_never_validated", "class_with_one_item"])
    assert "line 2: tag 'rock' has 2 rows to train, and none to validate. Add some" in str(found.findings[0])
