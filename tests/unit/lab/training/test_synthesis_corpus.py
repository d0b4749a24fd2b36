"""`synthesize_corpus` end to end, on two classes; what needs espeak-ng and pyworld is skipped without them."""

from __future__ import annotations

import csv
import importlib.util
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.lab.training.synthesis import COLUMNS, SynthesisError, synthesize_corpus
from app.lab.training.synthesis.errors import EspeakFailed, EspeakMissing, MetadataUnusable, OrderRefused, OutputUnusable
from app.lab.training.synthesis.lines import load_grammars
from app.lab.training.synthesis.pairing import load_rows
from app.lab.training.synthesis.voices import TRAIN_VOICES, VALID_VOICES, speak

NEEDED = {"espeak-ng": shutil.which("espeak-ng"), "pyworld": importlib.util.find_spec("pyworld")}
needs_synthesiser = pytest.mark.skipif(
    not all(NEEDED.values()), reason=f"not installed: {', '.join(k for k, v in NEEDED.items() if not v)}"
)
LABELS = ("sv", "others")
HEADER = "split\tlabel\tlanguage\tstrength\tsource\tartist\talbum\ttitle\n"


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    path = tmp_path / "metadata.tsv"
    rows = [f'{split}\t{label}\t{language}\tstrong\tus\t{split} "Band"\t\t{label} {language} song {k}\n'
            for split in ("train", "valid", "test")
            for label, language in (("sv", "sv"), ("others", "ru"), ("others", "xx"))
            for k in range(5)]  # fmt: skip
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


def make(output: Path, metadata: Path, clips: int = 2, jobs: int = 1, seed: int = 4) -> tuple[int, int]:
    report = synthesize_corpus(
        output, metadata=metadata, clips_per_class=clips, seed=seed, jobs=jobs, labels=LABELS, show_progress=False
    )
    assert report.manifest == output / "manifest.tsv"
    return report.made, report.found


def sounds(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in output.rglob("*.flac")}


def manifest(output: Path) -> list[dict[str, str]]:
    with (output / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


@needs_synthesiser
def test_corpus_is_what_the_manifest_says(tmp_path: Path, metadata: Path) -> None:
    output = tmp_path / "corpus"
    assert make(output, metadata) == (6, 0)
    rows = manifest(output)
    assert {row["path"] for row in rows} == set(sounds(output))
    assert sorted((row["split"], row["label"]) for row in rows) == sorted(
        [("train", label) for label in LABELS] * 2 + [("valid", label) for label in LABELS]
    )
    variants = {split: {v.variant for v in voices} for split, voices in
                (("train", TRAIN_VOICES), ("valid", VALID_VOICES))}  # fmt: skip
    for row in rows:
        samples, rate_hz = soundfile.read(output / row["path"], dtype="float64")
        info = soundfile.info(output / row["path"])
        assert (rate_hz, samples.ndim, info.format, info.subtype) == (22_050, 1, "FLAC", "PCM_16")
        assert len(samples) / rate_hz == pytest.approx(float(row["duration_seconds"]), abs=1e-4)
        assert 7 <= float(row["duration_seconds"]) <= 9
        assert np.abs(samples).max() < 0.98
        assert -40 < 20 * np.log10(np.sqrt((samples**2).mean())) < -10
        assert row["voice"].split("+")[1] in variants[row["split"]]
        assert row["artist"] == f'{row["split"]} "Band"'  # the same split, and never test
        assert row["title"].startswith(row["label"])
        if row["language"] in ("sv", "ru"):
            assert row["title"].split()[1] == row["language"]


@needs_synthesiser
def test_a_stopped_run_goes_on_and_a_larger_corpus_holds_the_smaller(tmp_path: Path, metadata: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    make(whole, metadata, clips=2, jobs=2)
    make(parts, metadata, clips=1)
    assert sounds(parts).items() <= sounds(whole).items()
    lost = parts / "audio/train/sv/000000.flac"
    lost.unlink()
    lost.with_suffix(".1.part").write_bytes(b"half a clip")
    kept = {p: p.stat().st_mtime_ns for p in parts.rglob("*.flac")}
    assert make(parts, metadata, clips=2) == (6 - len(kept), len(kept))
    assert sounds(parts) == sounds(whole)  # one job or two, in one go or in two: the same bytes
    assert manifest(parts) == manifest(whole)
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in kept.items())


@needs_synthesiser
def test_every_voice_of_every_language_speaks() -> None:
    for grammars in load_grammars().values():
        for grammar in grammars:
            for voice in grammar.voices:
                text = grammar.line("train", np.random.default_rng(0))
                assert 0.5 < len(speak(text, f"{voice}+m3", 150, 50)) / 22_050 < 20, voice


@needs_synthesiser
def test_an_unknown_voice_is_refused() -> None:
    with pytest.raises(EspeakFailed, match="no speech with voice xx-none"):
        speak("hello", "xx-none", 150, 50)


def test_missing_espeak_names_the_remedy(tmp_path: Path, metadata: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EspeakMissing, match="apt-get install espeak-ng") as caught:
        make(tmp_path / "corpus", metadata)
    assert isinstance(caught.value, SynthesisError)
    assert not (tmp_path / "corpus").exists()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # workers raise it across processes
    with pytest.raises(EspeakMissing, match="apt-get install espeak-ng"):
        speak("hello", "en", 150, 50)


@needs_synthesiser
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, metadata: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputUnusable, match="Free space or choose another folder"):
        make(tmp_path / "file" / "corpus", metadata)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        ("split\tlabel\n", "no column language, artist, album, title"),
        (HEADER + "train\tsv\tsv\tx\tx\ta\tb\tc\ntest\tsv\tsv\tx\tx\ta\tb\tc\n", "no row for sv in valid"),
    ],
)
def test_unusable_metadata_is_explained(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "rows.tsv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(MetadataUnusable, match=reason):
        load_rows(path, ("sv",))


@pytest.mark.parametrize("wrong", [{"clips_per_class": 0}, {"jobs": 0}, {"seed": -1}, {"labels": ("en", "tlh")}])
def test_orders_out_of_range_are_refused(tmp_path: Path, metadata: Path, wrong: dict[str, int]) -> None:
    order = {"clips_per_class": 1, "jobs": 1, "seed": 0} | wrong
    with pytest.raises(OrderRefused, match=str(next(iter(wrong)))):
        synthesize_corpus(tmp_path / "corpus", metadata=metadata, **order)  # type: ignore[arg-type]
