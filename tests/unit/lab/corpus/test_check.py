import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from app.cli.main import app
from app.families.lrid_net.config import ListenConfig
from app.lab.caches import Decoder
from app.lab.corpus.check import FINDINGS, CorpusCheck, check_corpus
from tests.releases import write_release

CODES = ["en", "fr", "ja"]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "m.csv"
    path.write_text("\n".join(("path,artist,title,label,split", *lines)) + "\n", encoding="utf-8")
    return path


def tone(path: Path, pitch_hz: float) -> None:
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(8000) / 16_000), 16_000)


def found(path: Path) -> CorpusCheck:
    return check_corpus(path, CODES, decode=Decoder(ListenConfig().window), jobs=2)


GOOD = [f",{code} artist {i},{code} {i},{code},{'valid' if i else 'train'}" for code in CODES for i in (0, 1)]
GOOD += [f",{code} artist 0,{code} again,{code},train" for code in CODES]


def test_a_good_corpus_is_counted_and_nothing_found(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 300)
    check = found(write(tmp_path, "a.wav,x,,en,train", *GOOD))
    assert check.findings == []
    assert check.counts["train"] == {"en": 3, "fr": 2, "ja": 2}
    assert (check.rows, check.with_audio, check.with_metadata) == (10, 1, 10)


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        (",,,en,train", "empty_row", "line 2: neither audio nor metadata"),
        (",a,b,xx,train", "unknown_label", "line 2: unknown label 'xx'. Known: en, fr, ja"),
        (",a,b,,train", "unknown_label", "line 2: no label"),
        (",a,b,en,dev", "unknown_split", "line 2: split is 'dev'. Write one of train, valid, test"),
        ("gone.wav,a,b,en,train", "missing_audio", "gone.wav. Correct the path, or drop the row"),
        ("text.wav,a,b,en,train", "unreadable_audio", "text.wav cannot be decoded"),
        (
            "empty.wav,a,b,en,train",
            "unreadable_audio",
            "empty.wav cannot be decoded (Expected an audio file; 0 bytes came). R",
        ),
        ("silent.wav,a,b,en,train", "unreadable_audio", "silent.wav cannot be decoded (it is silent). Repair it"),
        (",EN  artist 0,en 0,en,train", "duplicate", "line 3: the same track as line 2. Drop one"),
        (",en artist 0,en 0,fr,train", "contradiction", "but labelled 'en' and 'fr'. Find out which is right"),
        (",en artist 0,en 0,en,valid", "track_in_two_splits", "line 3: the same track as line 2, in split train and valid"),
        (",en artist 0,new,en,valid", "artist_in_two_splits", "is in split train, and in valid on line 2."),
        ("a.wav,a,b,en,train\ncopy.wav,c,d,en,train", "duplicate", "holds the same bytes as"),
        ("a.wav,a,b,en,train\ncopy.wav,c,d,en,test", "track_in_two_splits", "holds the same bytes as"),
    ],
)
def test_each_thing_that_is_wrong_is_named(tmp_path: Path, line: str, kind: str, says: str) -> None:
    tone(tmp_path / "a.wav", 300)
    tone(tmp_path / "copy.wav", 300)
    (tmp_path / "text.wav").write_text("no audio", encoding="utf-8")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    check = found(write(tmp_path, line, *GOOD))
    assert kind in check.found
    assert kind in FINDINGS
    assert [str(finding) for finding in check.findings if says in str(finding)] != []


def test_vectors_are_as_long_as_the_first_of_their_column(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    cells = ['"[0.5, 1]"', "", '"[0.5]"', '"[0.5, NaN]"', "here", '"[1e0, -2]"']
    rows = [f"a{i},{i},en,train,[00:12.50]la la,{cell}" for i, cell in enumerate(cells)]
    path.write_text("\n".join(["artist,title,label,split,lyrics,consumption", *rows]), encoding="utf-8")
    assert [str(finding) for finding in found(path).findings] == [
        "line 4: consumption: expected 2 numbers, got 1. Correct the cell, or empty it",
        "line 5: consumption: expected a JSON array of 2 numbers. Correct the cell, or empty it",
        "line 6: consumption: expected a JSON array of 2 numbers. Correct the cell, or empty it",
    ]


def test_lyrics_alone_are_a_row(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("lyrics,label\n" + "la la,en\n" * 2 + "lo,fr\n,fr\nli,fr\nlu,ja\nle,ja\n", encoding="utf-8")
    assert [str(finding) for finding in found(path).findings] == [
        "line 5: neither audio nor metadata. Fill path, artist, album, title or lyrics, or drop the row"
    ]


def test_titles_alone_may_repeat(tmp_path: Path) -> None:
    check = found(write(tmp_path, ",,Love,en,train", ",,Love,en,valid", ",,Love,fr,train", *GOOD))
    assert check.findings == []


def test_classes_that_can_hardly_be_learnt(tmp_path: Path) -> None:
    lines = [line for line in GOOD if line not in {",fr artist 0,fr 0,fr,train", ",ja artist 0,ja 0,ja,train"}]
    lines.remove(",ja artist 0,ja again,ja,train")
    check = found(write(tmp_path, *lines))
    assert check.found == {"class_with_one_item": 1, "class_never_trained": 1}
    one, never = map(str, check.findings)
    assert "the only row to train class 'fr'. Add rows of it" in one
    assert "class 'ja' has 1 rows in valid, and none to train" in never


def test_the_command_prints_tables_or_json_and_fails_when_something_is_wrong(tmp_path: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(app, ["corpus", "check", str(write(tmp_path, *GOOD))])
    assert good.exit_code == 0, good.output
    assert "nothing wrong" in good.output
    bad = write(tmp_path, *GOOD, ",a,b,xx,train", "gone.wav,a,b,en,train")
    result = runner.invoke(app, ["corpus", "check", str(bad)])
    assert result.exit_code == 1
    assert "unknown labels: 1" in result.output
    assert "line 11: unknown label 'xx'" in result.output
    result = runner.invoke(app, ["corpus", "check", "--json", str(bad)])
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["found"] == {"unknown_label": 1, "missing_audio": 1}
    assert {"kind", "where", "what", "remedy"} == set(said["findings"][0])


def test_the_classes_may_be_those_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(tmp_path / "store"))
    labels = [{"code": code, "iso639_3": None, "name": code} for code in ("en", "zh")]
    write_release(tmp_path / "store", labels=labels)
    rows = [f",{code} {split},{code} {split},{code},{split}" for code in ("en", "zh", "zxx") for split in ("train", "valid")]
    more = [f",{code} more,{code} more,{code},train" for code in ("en", "zh", "zxx")]
    command = ["corpus", "check", str(write(tmp_path, *rows, *more))]
    assert "unknown label 'zh'" in CliRunner().invoke(app, command).output
    result = CliRunner().invoke(app, [*command, "--release", "lrid_net/1"])
    assert (result.exit_code, "nothing wrong" in result.output) == (0, True), result.output
