"""The paper's recipe on a corpus of tones: what it learns, what a batch is, and what is refused."""

import csv
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from app.lab.errors import CheckpointError, CorpusError, TrainingError
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.loop import train
from app.lab.training.recipes import recipe_of
from app.lab.training.recipes.lrid_net import VARIANTS, LridNetConfig, LridNetRecipe
from tests.corpora import LISTEN, write_corpus

ROOT = Path(__file__).resolve().parents[4]
WORKER = """
import json, pathlib, sys
from app.lab.training.loop import train
from app.lab.training.recipes.lrid_net import LridNetRecipe, LridNetConfig
train(LridNetRecipe(LridNetConfig.model_validate_json(sys.argv[1])))
"""


def changed(config: LridNetConfig, **changes: Any) -> LridNetRecipe:
    return LridNetRecipe(LridNetConfig.model_validate(config.model_dump() | changes))


def prepared(config: LridNetConfig, **changes: Any) -> LridNetRecipe:
    recipe = changed(config, **changes)
    recipe.prepare(Progress())
    return recipe


def log(config: LridNetConfig) -> list[dict[str, str]]:
    with (config.output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(a: Path, b: Path) -> bool:
    first, second = checkpoint.load(a)["network"], checkpoint.load(b)["network"]
    return all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_what_can_be_learnt(config: LridNetConfig) -> None:
    train(changed(config, epochs=6, steps_per_epoch=12))
    rows = log(config)
    best = min(rows, key=lambda row: float(row["valid_loss"]))
    assert float(best["valid_accuracy_both"]) > 0.8  # chance 1/3; tones of three pitches and three languages
    assert float(rows[0]["train_loss"]) > float(best["train_loss"])


def test_a_checkpoint_says_what_was_learnt_from(config: LridNetConfig) -> None:
    facts = checkpoint.load(train(changed(config, epochs=1)), "lrid_net")["facts"]
    assert facts["rows"] == {"audio": 18, "text": 0}
    assert facts["class_prior"] == pytest.approx(dict.fromkeys(("en", "fr", "ja"), 1 / 3), abs=1e-4)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_trains_in_its_cases(config: LridNetConfig, variant: str) -> None:
    train(changed(config, variant=variant, epochs=1, steps_per_epoch=1))
    (row,) = log(config)
    cases = {name.removeprefix("valid_loss_") for name in row if name.startswith("valid_loss_")}
    assert cases == set(VARIANTS[variant].modes) == {
        "main": {"both"},
        "adr": {"both", "text_only"},
        "tdr": {"both", "audio_only"},
        "atdr": {"both", "audio_only", "text_only"},
        "to": {"text_only"},
        "ao": {"audio_only"},
    }[variant]  # fmt: skip


def test_rows_without_audio_are_learnt_from_where_none_has_any(config: LridNetConfig, tmp_path: Path) -> None:
    more = tmp_path / "names.tsv"
    lines = [f"{'en' if i % 4 else 'fr'}\t{split}\t{split} {i}\twords {i}" for i in range(8) for split in ("train", "valid")]
    more.write_text("label\tsplit\tartist\ttitle\n" + "\n".join(lines) + "\n", encoding="utf-8")
    recipe = prepared(config, catalogue=more, variant="to", epochs=1)
    assert recipe.facts() == {"rows": {"audio": 0, "text": 8}, "class_prior": {"en": 0.75, "fr": 0.25, "ja": 0.0}}
    train(recipe)


def test_rows_with_audio_come_once_a_pass_in_a_new_order(config: LridNetConfig) -> None:
    recipe = prepared(config)
    first, again, second = (np.concatenate(list(recipe.batches(epoch))) for epoch in (0, 0, 1))
    assert sorted(first) == list(range(18))
    assert (first == again).all()
    assert (first != second).any()


def test_crops_lie_inside_the_clip_and_short_clips_repeat(config: LridNetConfig) -> None:
    recipe = prepared(config)
    clip = recipe.songs.waveforms.read(recipe.songs.rows[0])
    (crop,) = recipe.songs.crops(np.array([0]), np.random.default_rng(1))
    places = [i for i in range(len(clip) - len(crop) + 1) if np.array_equal(clip[i : i + 50], crop[:50])]
    assert any(np.array_equal(clip[i : i + len(crop)], crop) for i in places)
    clip = recipe.valid.waveforms.read(recipe.valid.rows[0])
    window = recipe.valid.window(0, 0)  # 1 s of a clip of 0.7
    assert np.array_equal(window[: len(clip)], clip)
    assert np.array_equal(window[len(clip) :], clip[: len(window) - len(clip)])


def test_whole_windows_begin_where_those_of_serving_do(config: LridNetConfig, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, train=1, valid=1)
    rate = LISTEN.sample_rate_hz
    soundfile.write(tmp_path / "train-en-0.wav", 0.1 * np.sin(np.arange(round(2.6 * rate)) ** 1.5 / 9e3), rate)
    recipe = prepared(config, catalogue=corpus, cache=None, crop_seconds=0.0, batch_size=2)
    clip = recipe.songs.waveforms.read(recipe.songs.rows[0])
    crops = recipe.songs.drawn(np.zeros(40, np.int64), np.random.default_rng(0))
    starts = {start for crop in crops for start in range(0, len(clip), rate) if np.array_equal(crop[:99], clip[start:][:99])}
    assert starts == {0, rate, 2 * rate}  # windows of 1 s
    assert crops.shape == (40, rate)


def test_a_missing_modality_is_zeros(config: LridNetConfig) -> None:
    """Logits with audio missing are those of a zero spectrogram, whatever the audio was."""
    recipe = prepared(config)
    network = recipe.build().eval()
    case = recipe.cases(network)["text_only"]
    x_lang = torch.from_numpy(recipe.valid.x_lang)
    silence = torch.zeros(len(x_lang), LISTEN.mel_bands, LISTEN.window_frames)
    with torch.no_grad():
        torch.testing.assert_close(case.logits, network(silence, x_lang), atol=1e-5, rtol=1e-4)


def test_f_trains_in_bf16_unless_fp32_is_asked_for(config: LridNetConfig) -> None:
    for precision, expected in (("auto", True), ("bf16", True), ("fp32", False)):
        with changed(config, precision=precision)._autocast():
            assert torch.is_autocast_enabled("cpu") == expected
    train(changed(config, precision="auto", epochs=1, steps_per_epoch=1, threads=2))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variant": "maine"}, "setting variant: Input should be 'main'"),
        ({"network": {"base_channels": 2}}, "at least 4; gradients of narrower ones crash on a CPU"),
        ({"batch_size": 1}, "setting batch_size: Input should be greater than or equal to 2"),
        ({"epoch": 3}, "setting epoch: Extra inputs are not permitted; settings of lrid_net: catalogue, output"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        recipe_of("lrid_net", settings | changes)
    with pytest.raises(TrainingError, match="no recipe 'lrid_nut'; known: lrid_net"):
        recipe_of("lrid_nut", settings)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("gone.wav\tx\t\ty\ten\ttrain", r"line 38: .*gone\.wav cannot be opened .*correct or drop.*lrid corpus check"),
        ("broken.wav\tx\t\ty\ten\ttrain", r"line 38: .*broken\.wav cannot be decoded .*repair or drop.*so far is kept"),
        ("silent.wav\tx\t\ty\ten\ttrain", r"line 38: .*silent\.wav cannot be decoded \(it is silent\)"),
        ("\t\t\t\ten\ttrain", "line 38: neither audio nor metadata. Fill path, artist"),
        ("\tx\t\ty\txx\ttrain", "line 38: unknown label 'xx'. Known: en, fr, ja. Map it"),
        ("\ttrain singer en 0\t\ty\ten\tvalid", "line 38: artist 'train singer en 0' is in split valid, and in train"),
        ("train-en-0.wav\tx\t\ty\ten\tvalid", "line 38: the same track as line 2, in split valid and train. Drop one"),
    ],
)
def test_a_row_that_stops_training_is_named(config: LridNetConfig, tmp_path: Path, row: str, says: str) -> None:
    corpus = write_corpus(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"RIFF\x00\x00")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    corpus.write_text(corpus.read_text(encoding="utf-8") + row + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=says):
        prepared(config, catalogue=corpus, cache=tmp_path / "cache")
    kept = len(list((tmp_path / "cache").glob("features-*/*.npy")))
    assert kept == (30 if ".wav" in says and "cannot be" in says else 0), "what was decoded before is kept"


def test_odd_rows_are_told_and_trained_on(config: LridNetConfig, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    text = corpus.read_text(encoding="utf-8").splitlines()
    kept = [line for line in text if "\tja\ttrain" not in line or "ja 0" in line]
    corpus.write_text("\n".join([*kept, kept[1]]) + "\n", encoding="utf-8")
    said: list[str] = []
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign,assignment]
    changed(config, catalogue=corpus, cache=None).prepare(progress)
    assert f"manifest.tsv, line {len(kept) + 1}: the same track as line 2. Drop one of the rows" in said[0]
    assert "line 4: the only row to train class 'ja'. Add rows of it, or map it to others" in said[1]


def test_no_validation_rows_is_an_error(config: LridNetConfig, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no row has split=valid"):
        prepared(config, catalogue=write_corpus(tmp_path, train=2, valid=0), cache=None)


def test_resume_on_other_audio_is_refused(config: LridNetConfig, tmp_path: Path) -> None:
    """The same rows, but a file of them is another recording; one that was only touched is the same."""
    corpus = write_corpus(tmp_path)
    told = {"catalogue": corpus, "cache": None}
    train(changed(config, epochs=1, **told))
    file = tmp_path / "train-en-0.wav"
    os.utime(file, (1, 1))
    train(changed(config, epochs=2, resume=True, **told))
    file.write_bytes((tmp_path / "train-fr-1.wav").read_bytes())
    with pytest.raises(CheckpointError, match=r"last\.pt: the rows or their audio have changed since; restore them"):
        train(changed(config, epochs=3, resume=True, **told))


def test_a_killed_run_goes_on_to_the_same_weights(config: LridNetConfig, tmp_path: Path) -> None:
    whole, killed = (
        changed(config, output=tmp_path / "whole", epochs=4),
        changed(config, output=tmp_path / "killed", epochs=4),
    )
    train(whole)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", WORKER, killed.config.model_dump_json()], env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed/last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "killed/last.pt").exists()
    train(changed(killed.config, resume=True))
    assert same(tmp_path / "whole/last.pt", tmp_path / "killed/last.pt")
    assert [row["epoch"] for row in log(killed.config)] == ["0", "1", "2", "3"]


def test_a_full_disk_is_told_and_leaves_whole_checkpoints(config: LridNetConfig) -> None:
    """The limit on the size of a file stands for the disk: log and settings fit, the checkpoint does not."""
    train(changed(config, epochs=1))  # fills the caches too
    before = (config.output / "last.pt").read_bytes()
    assert len(before) > 40_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written.*free some disk and continue with --resume"):
            train(changed(config, epochs=2, resume=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (config.output / "last.pt").read_bytes() == before
    assert not list(config.output.glob("*.part"))
