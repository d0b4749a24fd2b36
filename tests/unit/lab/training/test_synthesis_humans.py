"""Human voices sing: plans from an index of recordings; what needs pyworld is skipped without it."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.lab.training.synthesis import SynthesisError, synthesize_corpus
from app.lab.training.synthesis.clip import ClipName
from app.lab.training.synthesis.errors import OrderRefused, SpeechUnusable
from app.lab.training.synthesis.humans import load_voices

RATE_HZ = 24_000
HEADER = "file,label,language,source,speaker,seconds,licence\n"
needs_world = pytest.mark.skipif(importlib.util.find_spec("pyworld") is None, reason="not installed: pyworld")


def vowels(seconds: float, f0_hz: float) -> np.ndarray:
    """Something a vocoder takes for speech: a buzz through a formant, in bursts of a syllable's length."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * k * f0_hz * t) / (1 + abs(k * f0_hz - 700) / 200) for k in range(1, 30))
    return 0.1 * np.asarray(buzz) * (np.sin(2 * np.pi * 3 * t) > -0.5)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "speech" / "index.csv"
    path.parent.mkdir()
    lines = []
    for label, language, source, speaker in (
        ("de", "de", "words", "a"), ("de", "de", "words", "b"), ("de", "de", "books", "c"),
        ("others", "ru", "words", "d"), ("others", "fi", "books", "e"), ("pl", "pl", "words", "f"),
    ):  # fmt: skip
        for k in range(2):
            name = f"{label}-{speaker}{k}.wav"
            soundfile.write(path.parent / name, vowels(3.0, 110 + 20 * k), RATE_HZ)
            lines.append(f"{name},{label},{language},{source},{speaker},3.0,CC0\n")
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    path = tmp_path / "metadata.tsv"
    pairs = [(split, label) for split in ("train", "valid") for label in ("de", "others")]
    rows = [f"{split}\t{label}\t{label}\tband {split}\t\tsong\n" for split, label in pairs]
    path.write_text("split\tlabel\tlanguage\tartist\talbum\ttitle\n" + "".join(rows), encoding="utf-8")
    return path


def test_held_out_sources_sing_in_validation_only(index: Path) -> None:
    voices = load_voices(index, {"books"})
    assert voices.labels == ("de", "others"), "pl has no voice for validation"
    sources = {
        split: {voices.plan(ClipName(1, split, label, n)).voice for label in voices.labels for n in range(20)}
        for split in ("train", "valid")
    }
    assert sources == {"train": {"words/a", "words/b", "words/d"}, "valid": {"books/c", "books/e"}}


def test_a_plan_depends_on_its_name_only(index: Path) -> None:
    voices, name = load_voices(index, {"books"}), ClipName(1, "train", "de", 3)
    assert voices.plan(name) == load_voices(index, {"books"}).plan(name)
    assert voices.plan(name) != voices.plan(ClipName(2, "train", "de", 3))
    sung = [voices.plan(ClipName(1, "train", "de", n)).sung for n in range(200)]
    assert 0.7 < np.mean(sung) < 0.9


@needs_world
def test_a_corpus_of_human_voices(tmp_path: Path, index: Path, metadata: Path) -> None:
    report = synthesize_corpus(
        tmp_path / "corpus", metadata=metadata, clips_per_class=2, seed=1, jobs=1, speech=index,
        held_out_sources=["books"], show_progress=False,
    )  # fmt: skip
    with report.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert report.made == len(rows) == 6
    assert {row["domain"] for row in rows} == {"human"}
    for row in rows:
        assert (row["voice"].startswith("books")) == (row["split"] == "valid")
        samples, rate = soundfile.read(tmp_path / "corpus" / row["path"])
        assert rate == 22_050
        assert len(samples) == pytest.approx(float(row["duration_seconds"]) * rate, abs=2)  # written to 0.1 ms
        assert 0.01 < np.sqrt((samples**2).mean()) < 0.3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("file,label\nx.wav,de\n", "has no column language, source, speaker"),
        (HEADER + "x.wav,de,de,words,a,1,CC0\n", "no class has recordings both"),
    ],
)
def test_an_index_that_cannot_be_used(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "index.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SpeechUnusable, match=says) as caught:
        load_voices(path, {"books"})
    assert "--hold-out" in str(caught.value)


@needs_world
def test_a_broken_recording_is_named(tmp_path: Path, index: Path, metadata: Path) -> None:
    for path in index.parent.glob("de-*.wav"):
        path.write_bytes(b"RIFF")
    with pytest.raises(SynthesisError, match=r"de-.*\.wav cannot be read"):
        synthesize_corpus(
            tmp_path / "corpus", metadata=metadata, clips_per_class=2, seed=1, jobs=1, speech=index,
            held_out_sources=["books"], show_progress=False,
        )  # fmt: skip


@needs_world
def test_a_class_without_human_voices_is_refused(tmp_path: Path, index: Path, metadata: Path) -> None:
    with pytest.raises(OrderRefused, match="'ja'"):
        synthesize_corpus(
            tmp_path / "corpus", metadata=metadata, clips_per_class=1, seed=1, jobs=1, labels=("ja",), speech=index,
            held_out_sources=["books"],
        )  # fmt: skip
