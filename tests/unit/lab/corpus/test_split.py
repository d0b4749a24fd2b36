from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.lab.corpus.check import check_corpus
from app.lab.corpus.split import split_corpus
from app.lab.corpus.tables import read_table
from app.lab.errors import CorpusError

SHARES = {"en": 600, "fr": 150, "ja": 50}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Artists of one to seven songs."""
    path = tmp_path / "in" / "m.csv"
    path.parent.mkdir()
    lines = ["path,artist,title,language,year"]
    for code, n in SHARES.items():
        lines += [f"audio/{code}{i}.mp3,{code} artist {int(i**0.8)},song {i},{code},19{i % 90 + 10}" for i in range(n)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def records(path: Path) -> list[dict[str, str]]:
    return list(read_table(path).records.values())


def test_eighty_to_twenty_in_every_class_and_no_artist_in_both(manifest: Path) -> None:
    output = manifest.with_name("split.tsv")
    counts = split_corpus(manifest, output, seed=3)
    for code, n in SHARES.items():
        assert counts["train"][code] + counts["valid"][code] == n
        assert counts["valid"][code] / n == pytest.approx(0.2, abs=0.06)
    assert check_corpus(output, list(SHARES), decode=None).found == {"missing_audio": sum(SHARES.values())}
    assert Counter(r["split"] for r in records(output)) == {s: sum(c.values()) for s, c in counts.items()}


def test_the_seed_decides(manifest: Path) -> None:
    first, again, other = (manifest.with_name(f"{name}.csv") for name in ("first", "again", "other"))
    for path, seed in ((first, 1), (again, 1), (other, 2)):
        split_corpus(manifest, path, seed=seed)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_columns_are_kept_and_paths_hold_from_the_new_place(manifest: Path) -> None:
    output = manifest.parent.parent / "out" / "split.parquet"
    split_corpus(manifest, output)
    first = records(output)[0]
    assert first == {
        "path": "../in/audio/en0.mp3", "artist": "en artist 0", "title": "song 0", "language": "en", "year": "1910",
        "split": first["split"],
    }  # fmt: skip


def test_a_class_with_one_artist_is_trained(manifest: Path) -> None:
    with manifest.open("a", encoding="utf-8") as file:
        file.writelines(f"x{i}.mp3,the only one,s{i},sv,2000\n" for i in range(4))
    for seed in range(5):
        counts = split_corpus(manifest, manifest.with_name("split.tsv"), seed=seed, force=True)
        assert (counts["train"]["sv"], counts["valid"]["sv"]) == (4, 0)


def test_rows_of_test_stay_where_they_are(manifest: Path) -> None:
    first = manifest.with_name("first.csv")
    split_corpus(manifest, first)
    text = first.read_text(encoding="utf-8").replace(",valid\n", ",test\n")
    first.write_text(text, encoding="utf-8")
    counts = split_corpus(first, manifest.with_name("second.csv"))
    assert sum(counts["test"].values()) == text.count(",test\n")
    mixed = text.replace(",train\n", ",\n", 1).replace("en artist 1,", f"{records(first)[-1]['artist']},")
    first.write_text(mixed.replace(",test\n", ",train\n").replace(",train\n", ",test\n", 1), encoding="utf-8")
    with pytest.raises(CorpusError, match="is in split test and in another"):
        split_corpus(first, manifest.with_name("third.csv"))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a,x,en"] * 3, "1 artists cannot be split 80%:20%"),
        ([f"a{i},x,{i}" for i in range(9)], "too few rows to split 80%:20%"),
        (["a,x,en", "b,y,"], "line 3: no label. Label it, or drop the row"),
        ([], "holds no rows"),
    ],
)
def test_what_cannot_be_split(tmp_path: Path, lines: list[str], says: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["artist,title,label", *lines]) + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=says):
        split_corpus(path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_command_refuses_to_overwrite(manifest: Path) -> None:
    runner, output = CliRunner(), manifest.with_name("split.csv")
    arguments = ["corpus", "split", str(manifest), "--output", str(output)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "train" in result.output
    before = output.read_bytes()
    result = runner.invoke(app, [*arguments, "--seed", "5"])
    assert result.exit_code == 1
    assert isinstance(result.exception, CorpusError)
    assert output.read_bytes() == before
    assert runner.invoke(app, [*arguments, "--seed", "5", "--force"]).exit_code == 0
    assert output.read_bytes() != before


def test_where_artists_are_the_classes_songs_are_split(tmp_path: Path) -> None:
    catalogue, output = tmp_path / "m.csv", tmp_path / "split.csv"
    lines = [f"{i}.wav,artist {i % 20},en" for i in range(200)] + ["once.wav,once,en"]
    catalogue.write_text("path,artist,language\n" + "\n".join(lines) + "\n", encoding="utf-8")
    counts = split_corpus(catalogue, output, valid_share=0.1, test_share=0.1, column="artist")
    assert {split: sum(by_artist.values()) for split, by_artist in counts.items()} == {
        "train": 161, "valid": 20, "test": 20,
    }  # fmt: skip
    assert counts["train"]["once"] == 1
    assert {7, 8, 9} >= {n for artist, n in counts["train"].items() if artist != "once"}
    artists = sorted(counts["train"])
    assert check_corpus(output, artists, decode=None, column="artist").found == {
        "missing_audio": 201,
        "class_with_one_item": 1,
    }
    with pytest.raises(CorpusError, match="use --column artist"):
        split_corpus(catalogue, output, test_share=0.1, force=True)
