from pathlib import Path

import pytest

from app.domain import Metadata
from app.lab.corpus.catalogue import Row, classes_of, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.errors import CorpusError

CODES = ["en", "fr", "ja"]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_a_tsv_keep_quotes_and_resolve_paths(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.tsv", 'path\ttitle\tlabel\tsplit\na/b.wav\tsay "hi\ten\tvalid\n\tOui\tfr\t\n')
    first, second = read_catalogue(manifest, CODES)
    assert first == Row("line 2", tmp_path / "a/b.wav", Metadata(title='say "hi'), 0, "valid", "")
    assert second.path is None
    assert second.split == "train"
    assert second.label == 1


def test_a_csv_may_say_language_and_quote_commas(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.csv", 'artist,title,language\n"Earth, Wind",x,ja\n')
    (row,) = read_catalogue(manifest, CODES)
    assert row.metadata.artist == "Earth, Wind"
    assert row.label == 2


def test_labels_may_stand_in_another_column_and_cells_are_kept(tmp_path: Path) -> None:
    catalogue = write(tmp_path / "m.csv", 'title,genre,lyrics\na,rock,"one\ntwo"\nb,folk,\n')
    assert classes_of(catalogue, "genre") == ["folk", "rock"]
    first, second = read_catalogue(catalogue, ["folk", "rock"], column="genre")
    assert (first.label, second.label) == (1, 0)
    assert first.cells["lyrics"] == "one\ntwo"
    assert [row.label for row in read_catalogue(catalogue, None)] == [-1, -1]
    with pytest.raises(CorpusError, match="no column 'mood'"):
        classes_of(catalogue, "mood")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title,label\nx,xx\n", "line 2: unknown label 'xx'"),
        ("title,label,split\nx,en,dev\n", "line 2: split is 'dev'"),
        ("title,label\na,en\n,fr\n", "line 3: neither audio nor metadata"),
        ("title\nx\n", "no column 'label' or 'language'"),
        ("label\nen\n", "at least one of the columns"),
        ("title,label\n", "holds no rows"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CorpusError, match=says):
        read_catalogue(write(tmp_path / "m.csv", text), CODES)


def test_a_missing_or_binary_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.csv cannot be read"):
        read_catalogue(tmp_path / "none.csv", CODES)
    (tmp_path / "b.csv").write_bytes(b"title,label\n\xff\xfe\xfa,en\n")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_catalogue(tmp_path / "b.csv", CODES)


def test_an_artist_in_two_splits_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.csv", "artist,title,label,split\nAbba,One,en,train\nabba ,Two,en,valid\n")
    with pytest.raises(CorpusError, match=r"line 3: artist 'abba .* on line 2"):
        refuse_leaks(read_catalogue(manifest, CODES), CODES)


def test_languages_that_are_no_class_may_count_as_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "title,label\na,en\nb,zh\nc,oops!\n")
    with pytest.raises(CorpusError, match="line 4: unknown label 'oops!'"):
        read_catalogue(path, [*CODES, "others"], rest="others")
    path = write(tmp_path / "m.csv", "title,label\na,en\nb,zh\n")
    assert [row.label for row in read_catalogue(path, [*CODES, "others"], rest="others")] == [0, 3]


@pytest.mark.parametrize(
    ("label", "language", "codes", "row"),
    [
        ("others", "zh", ("en", "zh", "others"), 1),
        ("others", "yue", ("en", "zh", "others"), 1),
        ("others", "yue", ("en", "others"), 1),
        ("en", "und", ("others", "en"), 1),
        ("", "xx", ("en", "others"), 1),
        ("", "instrumental", ("en", "zxx"), 1),
    ],
)
def test_a_language_that_is_a_class_counts_before_the_label(
    tmp_path: Path, label: str, language: str, codes: tuple[str, ...], row: int
) -> None:
    (tmp_path / "songs.csv").write_text(f"title,label,language\nOne,{label},{language}\n", encoding="utf-8")
    assert [one.label for one in read_catalogue(tmp_path / "songs.csv", codes, rest="others")] == [row]
