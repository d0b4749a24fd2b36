from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.lab.corpus.catalogue import read_catalogue
from app.lab.corpus.music4all import read_music4all
from app.lab.corpus.split import Made
from app.lab.corpus.tables import read_table
from app.lab.errors import CorpusError

CODES = ["en", "pt", "others", "sv"]
LANGUAGES = {"aa": "en", "bb": "INTRUMENTAL", "cc": "zh-cn", "dd": "sv", "ee": "", "ff": "pt", "gg": "en"}


@pytest.fixture
def music4all(tmp_path: Path) -> Path:
    """The data set's layout, seven tracks of it."""
    folder = tmp_path / "music4all"
    (folder / "audios").mkdir(parents=True)
    rows = [f'{i}\tArtist {i}\t"Song ""{i}"""\tAlbum {i}\n' for i in sorted(LANGUAGES)]
    (folder / "id_information.csv").write_text("id\tartist\tsong\talbum_name\n" + "".join(rows), encoding="utf-8")
    rows = [f"{i}\t{language}\n" for i, language in LANGUAGES.items()]
    (folder / "id_lang.csv").write_text("id\tlang\n" + "".join(rows), encoding="utf-8")
    for i in sorted(LANGUAGES)[:-1]:
        (folder / "audios" / f"{i}.mp3").touch()
    return folder


def made(folder: Path) -> tuple[Made, dict[str, dict[str, str]]]:
    output = folder.parent / "out" / "m.tsv"
    report = read_music4all(folder, output, CODES, force=True)
    return report, {record["id"]: record for record in read_table(output).records.values()}


def test_lists_of_ids(music4all: Path) -> None:
    (music4all / "train.txt").write_text("aa\nbb\ncc\n", encoding="utf-8")
    (music4all / "valid.txt").write_text("dd\nee\n", encoding="utf-8")
    (music4all / "test.txt").write_text("gg\n", encoding="utf-8")
    report, rows = made(music4all)
    assert {i: (row["label"], row["language"], row["split"]) for i, row in rows.items()} == {
        "aa": ("en", "en", "train"),
        "cc": ("others", "zh-cn", "train"),
        "dd": ("sv", "sv", "valid"),
        "gg": ("en", "en", "test"),
    }
    assert report.left_out == "left out: 1 instrumental, 1 without a language, 1 in no split list; without audio: 1"
    first, *_, last = read_catalogue(music4all.parent / "out" / "m.tsv", CODES)
    assert first.path is not None
    assert first.path.resolve() == (music4all / "audios/aa.mp3").resolve()
    assert (first.metadata.artist, first.metadata.album, first.metadata.title) == ("Artist aa", "Album aa", 'Song "aa"')
    assert last.path is None  # no such file: metadata alone


def test_lists_of_row_numbers_and_no_valid_txt(music4all: Path) -> None:
    """As music4all_contrib publishes them: numbers of rows, instrumentals among them; its test is the paper's validation."""
    (music4all / "train.txt").write_text("0\n1\n2\n6\n", encoding="utf-8")
    (music4all / "test.txt").write_text("3\n5\n", encoding="utf-8")
    report, rows = made(music4all)
    assert {i: row["split"] for i, row in rows.items()} == {
        "aa": "train", "cc": "train", "gg": "train", "dd": "valid", "ff": "valid",
    }  # fmt: skip
    assert report.split == "split by train.txt, test.txt"


def test_without_lists_it_is_split_here(music4all: Path) -> None:
    for name, line in (("id_information.csv", "{0}\tArtist {0}\ts\ta\n"), ("id_lang.csv", "{0}\ten\n")):
        with (music4all / name).open("a", encoding="utf-8") as file:
            file.writelines(line.format(f"x{i}") for i in range(40))
    report, rows = made(music4all)
    assert report.split == "split here, 80:20 by artist, seed 0"
    assert report.counts["valid"]["en"] == pytest.approx(0.2 * 42, abs=2)
    assert {row["split"] for row in rows.values()} == {"train", "valid"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("id_lang.csv", "id,lang\naa,en\n", "no column id, lang; found id,lang. Expected Music4All's own file"),
        ("id_lang.csv", "id\tlang\nzz\ten\n", "id 'zz' of id_lang.csv is not in id_information.csv"),
        ("train.txt", "aa\nzz\n", r"train\.txt, line 2: no track 'zz'"),
        ("train.txt", "99\n", r"train\.txt, line 1: no track '99'"),
        ("train.txt", "bb\n", "no track is left"),
    ],
)
def test_what_does_not_fit(music4all: Path, name: str, content: str, says: str) -> None:
    (music4all / name).write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=says):
        made(music4all)


def test_a_track_in_two_lists(music4all: Path) -> None:
    (music4all / "train.txt").write_text("aa\n", encoding="utf-8")
    (music4all / "test.txt").write_text("gg\naa\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"test\.txt, line 2: aa is in split train too"):
        made(music4all)


def test_the_command_says_what_was_left_out(music4all: Path) -> None:
    (music4all / "train.txt").write_text("aa\nbb\ncc\ndd\nee\nff\n", encoding="utf-8")
    output = music4all.parent / "m.csv"
    result = CliRunner().invoke(app, ["corpus", "music4all", str(music4all), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "left out: 1 instrumental, 1 without a language, 1 in no split list; without audio: 0" in result.output
    assert "split by train.txt" in result.output
    assert CliRunner().invoke(app, ["corpus", "music4all", str(music4all), "--output", str(output)]).exit_code == 1
