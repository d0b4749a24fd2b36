"""Corrections that a server kept become a catalogue."""

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import main as cli
from app.http.feedback import Feedback, FeedbackFile
from app.lab.corpus.catalogue import read_catalogue
from app.lab.corpus.feedback import feedback_corpus
from app.lab.corpus.tables import read_table
from app.lab.errors import CorpusError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """As a server writes it, with names, and a line that a full disk cut."""
    file = FeedbackFile(tmp_path / "feedback.jsonl", 10_000, keep_names=True)
    for given in (
        {"id": "r1", "hash": sha256(b"one"), "answer": "en", "correction": "fr"},
        {"id": "r2", "hash": sha256(b"one"), "answer": "en", "correction": "pt"},
        {"id": "r3", "hash": sha256(b"gone"), "answer": "en", "correction": "de"},
        {"id": "r4", "answer": "es", "correction": "pt", "title": "Construção", "artist": "Chico Buarque"},
        {"id": "r5", "answer": "es", "correction": "mul"},
        {"id": "r6", "hash": sha256(b"two"), "answer": "es", "correction": "zxx"},
        {"id": "r7", "answer": "es", "correction": "it"},
    ):
        file.append(Feedback.model_validate(given))
    with file.path.open("ab") as lines:
        lines.write(b'{"id": "r8", "corr')
    return file.path


def test_audio_is_found_by_hash_and_names_are_kept(kept: Path, tmp_path: Path) -> None:
    music, output = tmp_path / "music", tmp_path / "corrected.csv"
    music.mkdir()
    (music / "1.mp3").write_bytes(b"one")
    (music / "2.mp3").write_bytes(b"two")
    (music / "3.mp3").write_bytes(b"three")
    arguments = ["corpus", "feedback", str(kept), "--output", str(output), "--songs", str(music)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    rows = read_catalogue(output, ["pt", "zxx"])
    assert [(row.path and row.path.name, row.metadata.title, row.label, row.strength) for row in rows] == [
        ("1.mp3", None, 0, "feedback"),
        (None, "Construção", 0, "feedback"),
        ("2.mp3", None, 1, "feedback"),
    ]
    said = "\n".join(result.output.splitlines()[2:5])
    assert "lines that are no correction: 1" in said
    assert "without names: 2" in said
    assert "songs in several languages: 1" in said


def test_rows_of_a_table_are_found_by_their_id_or_hash(kept: Path, tmp_path: Path) -> None:
    table, output = tmp_path / "scored.csv", tmp_path / "corrected.tsv"
    table.write_text(f"id,title,hash,language\nr7,Volare,,es\nx,Lili Marleen,{sha256(b'gone')},en\n")
    arguments = ["corpus", "feedback", str(kept), "--output", str(output), "--songs", str(table)]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    found = {record["title"]: record["language"] for record in read_table(output).records.values()}
    assert found == {"Volare": "it", "Lili Marleen": "de", "Construção": "pt"}


def test_nothing_is_written_over(kept: Path, tmp_path: Path) -> None:
    output = tmp_path / "corrected.csv"
    output.write_text("mine")
    with pytest.raises(CorpusError, match="exists"):
        feedback_corpus(kept, [], output)
    with pytest.raises(CorpusError, match="cannot be read"):
        feedback_corpus(tmp_path / "none.jsonl", [], tmp_path / "other.csv")
    with pytest.raises(CorpusError, match=r"corrected\.csv holds no correction"):
        feedback_corpus(output, [], tmp_path / "other.csv")
    assert not (tmp_path / "other.csv").exists()
    feedback_corpus(kept, [], output, force=True)
    assert "Construção" in output.read_text()
