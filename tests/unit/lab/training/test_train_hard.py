"""What goes wrong while training: each says which row and what to do, nothing already made is lost, and --resume goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from rich.progress import Progress

from app.families.lrid_net.listen import LogMel
from app.lab.training import checkpoint
from app.lab.training import train as train_module
from app.lab.training.caches import Waveforms
from app.lab.training.config import TrainConfig
from app.lab.training.corpus import read_manifest
from app.lab.training.data import Decoder, crops, prepare, windows
from app.lab.training.errors import CheckpointError, CorpusError, TrainingError
from app.lab.training.journal import Journal
from app.lab.training.state import save, start
from app.lab.training.team import Team
from app.lab.training.train import check_team, train
from app.lab.training.validate import Ear
from tests.corpora import write_corpus

ROOT = Path(__file__).resolve().parents[4]
WORKER = """
import hashlib, pathlib, sys
from dataclasses import replace
from app.lab.training import train as t
from app.lab.training.config import TrainConfig
from tests.corpora import LABELS, LISTEN, NETWORK

manifest, output, epochs, resume = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
config = TrainConfig(manifest=manifest, output=output, cache=manifest.parent / "cache", epochs=epochs, batch_size=6,
                     crop_seconds=0.5, precision="fp32", device="cpu", threads=1, labels=LABELS, listen=LISTEN,
                     network=NETWORK, resume=resume, learning_rate=3e-3)
real = t.validate

def noting(config, data, network, ear):
    digest = hashlib.sha256(b"".join(v.numpy().tobytes() for v in network.state_dict().values())).hexdigest()
    (output.parent / f"{output.name}-{ear.team.rank}.txt").open("a").write(digest + "\\n")
    return real(config, data, network, ear)

t.validate = noting
t.train(config)
"""


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path)["network"]


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return all(torch.equal(first[name], second[name]) for name in first)


def run(arguments: list[str], **more: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more
    )


def with_row(corpus: Path, row: str) -> Path:
    path = corpus.parent / "with-row.tsv"
    path.write_text(corpus.read_text(encoding="utf-8") + row + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("gone.wav\tx\t\ty\ten\ttrain", r"line 38: .*gone\.wav cannot be opened .*correct or drop.*lrid corpus check"),
        ("broken.wav\tx\t\ty\ten\ttrain", r"line 38: .*broken\.wav cannot be decoded .*repair or drop the row"),
        ("silent.wav\tx\t\ty\ten\ttrain", r"line 38: .*silent\.wav cannot be decoded \(it is silent\)"),
        ("\t\t\t\ten\ttrain", "line 38: neither audio nor metadata. Fill path, artist"),
        ("\tx\t\ty\txx\ttrain", "line 38: unknown label 'xx'. Known: en, fr, ja. Map it"),
        ("\ttrain singer en 0\t\ty\ten\tvalid", "line 38: artist 'train singer en 0' is in split valid, and in train"),
        ("train-en-0.wav\tx\t\ty\ten\tvalid", "line 38: the same track as line 2, in split valid and train. Drop one"),
    ],
)
def test_a_row_that_stops_training_is_named(config: TrainConfig, tmp_path: Path, row: str, says: str) -> None:
    corpus = write_corpus(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"RIFF\x00\x00")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    with pytest.raises(CorpusError, match=says):
        train(replace(config, manifest=with_row(corpus, row), cache=None))


def test_what_was_decoded_before_a_broken_row_is_kept(config: TrainConfig, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"RIFF\x00\x00")
    with pytest.raises(CorpusError, match="what was decoded so far is kept"):
        train(replace(config, manifest=with_row(corpus, "broken.wav\tx\t\ty\ten\ttrain"), cache=tmp_path / "cache"))
    assert len((tmp_path / "cache/audio-22050/index.jsonl").read_text().splitlines()) == 36


def test_odd_rows_are_told_and_trained_on(config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(tmp_path)
    text = corpus.read_text(encoding="utf-8").splitlines()
    kept = [line for line in text if "\tja\ttrain" not in line or "ja 0" in line]
    corpus.write_text("\n".join([*kept, kept[1]]) + "\n", encoding="utf-8")
    train(replace(config, manifest=corpus, cache=None, epochs=1))
    said = " ".join(capsys.readouterr().out.split())
    assert f"line {len(kept) + 1}: the same track as line 2. Drop one of the rows" in said
    assert "line 4: the only row to train class 'ja'. Add rows of it, or map it to others" in said


def test_a_training_is_never_written_over(config: TrainConfig) -> None:
    train(replace(config, epochs=1))
    before = {path.name: path.read_bytes() for path in config.output.iterdir()}
    with pytest.raises(TrainingError, match=r"last\.pt exists: go on from it with --resume, or choose another --output"):
        train(replace(config, epochs=2, seed=5))
    assert {path.name: path.read_bytes() for path in config.output.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rate": 0.5}, r"trained with learning_rate = 0\.003, not 0\.5; give the same to --resume"),
        ({"batch_size": 3}, "trained with batch_size = 6, not 3"),
        ({"variant": "adr"}, "its variant is atdr, this training's is adr"),
    ],
)
def test_resume_with_other_settings_is_refused(config: TrainConfig, changes: dict, says: str) -> None:
    train(replace(config, epochs=1))
    with pytest.raises(CheckpointError, match=says):
        train(replace(config, resume=True, **changes))


def test_resume_on_other_rows_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    told = replace(config, manifest=corpus, cache=None, epochs=1)
    train(told)
    corpus.write_text(corpus.read_text(encoding="utf-8") + "\tx\t\tsome words\ten\ttrain\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"has changed since \(18 rows with audio and 0 without then, 18 and 1"):
        train(replace(told, epochs=2, resume=True))


@pytest.mark.parametrize("spectrograms", [False, True])
def test_resume_on_other_audio_is_refused(config: TrainConfig, tmp_path: Path, spectrograms: bool) -> None:
    """The same rows, but a file of them is another recording; one that was only touched is the same."""
    corpus = write_corpus(tmp_path)
    told = replace(config, manifest=corpus, cache=None, epochs=1, spectrogram_cache=spectrograms)
    train(told)
    file = tmp_path / "train-en-0.wav"
    os.utime(file, (1, 1))
    train(replace(told, epochs=2, resume=True))
    file.write_bytes((tmp_path / "train-fr-1.wav").read_bytes())
    with pytest.raises(CheckpointError, match=r"last\.pt: audio files have changed since: .* restore them, or begin"):
        train(replace(told, epochs=3, resume=True))


def test_weights_that_broke_down_do_not_replace_good_ones(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    train(replace(config, epochs=1))
    good = (config.output / "last.pt").read_bytes()
    with Progress(disable=True) as progress:
        data = prepare(config, progress)
    state = start(config)
    with torch.no_grad():
        state.network.g[0][0].weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"weights g\.0\.0\.weight hold NaN .*last\.pt is intact: .*--init-from"):
        save("last.pt", config, data, state)
    assert (config.output / "last.pt").read_bytes() == good


def test_a_killed_run_goes_on_to_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(replace(config, output=whole, epochs=4))
    process = run([str(worker), str(config.manifest), str(killed), "4", "0"])
    try:
        deadline = time.monotonic() + 120
        while not (killed / "last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0]
    assert (killed / "last.pt").exists(), said
    train(replace(config, output=killed, epochs=4, resume=True))
    assert same(whole / "last.pt", killed / "last.pt")
    with (killed / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


def test_a_full_disk_is_told_and_leaves_whole_checkpoints(config: TrainConfig, tmp_path: Path) -> None:
    """The limit on the size of a file stands for the disk: the first checkpoint fits, the second is told not to."""
    worker = tmp_path / "worker.py"
    limits = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
    worker.write_text(limits + WORKER, encoding="utf-8")
    train(replace(config, output=tmp_path / "run", epochs=1))  # fills the caches too
    before = (tmp_path / "run/last.pt").read_bytes()
    assert len(before) > 40_000
    process = run([str(worker), str(config.manifest), str(tmp_path / "run"), "2", "1"])
    said = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "could not be written" in said
    assert "free some disk and continue with --resume" in said
    assert (tmp_path / "run/last.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob("*.part"))
    train(replace(config, output=tmp_path / "run", epochs=2, resume=True))
    train(replace(config, output=tmp_path / "whole", epochs=2))
    assert same(tmp_path / "run/last.pt", tmp_path / "whole/last.pt")


def test_a_cache_that_was_cut_off_is_mended(config: TrainConfig, tmp_path: Path) -> None:
    rows = read_manifest(config.manifest, config.codes)[:4]
    decode = Decoder(config.listen)
    first = Waveforms(tmp_path)
    first.add(rows[:2], decode)
    expected = first.read(rows[1])
    with (tmp_path / "samples.i16").open("ab") as file:
        file.write(b"\x01" * 777)  # an odd number of bytes
    with (tmp_path / "index.jsonl").open("ab") as file:
        file.write(b'{"path": "/cut o')
    mended = Waveforms(tmp_path)
    mended.add(rows, decode)
    assert np.array_equal(mended.read(rows[1]), expected)
    np.testing.assert_allclose(mended.read(rows[3]), decode(rows[3].path), atol=1e-4)
    assert mended.fingerprint(rows) != mended.fingerprint(rows[:3])
    assert [json.loads(line)["length"] for line in (tmp_path / "index.jsonl").read_text().splitlines()] == [
        mended.length(row) for row in rows
    ]


def test_a_cache_of_an_earlier_version_is_filled_anew(config: TrainConfig, tmp_path: Path) -> None:
    """Its index has no checksums: `--resume` could not tell whether the audio is the same."""
    rows = read_manifest(config.manifest, config.codes)[:2]
    decode = Decoder(config.listen)
    first = Waveforms(tmp_path)
    first.add(rows, decode)
    index = tmp_path / "index.jsonl"
    entries = [json.loads(line) for line in index.read_text().splitlines()]
    assert all(entry.pop("crc32") for entry in entries)
    index.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    again = Waveforms(tmp_path)
    again.add(rows, decode)
    assert again.fingerprint(rows) == first.fingerprint(rows)
    assert np.array_equal(again.read(rows[1]), first.read(rows[1]))


def test_a_log_whose_last_line_was_cut_off(config: TrainConfig) -> None:
    train(replace(config, epochs=2))
    log = config.output / "log.csv"
    text = log.read_text()
    log.write_text(text + "2,0.01")
    Journal(config, 2)
    assert log.read_text().splitlines() == text.splitlines()


def test_crops_of_a_spectrogram_cache_are_what_the_samples_give(config: TrainConfig) -> None:
    plain, told = replace(config, crop_seconds=0.5), replace(config, crop_seconds=0.5, spectrogram_cache=True)
    with Progress(disable=True) as progress:
        samples, spectrograms = prepare(plain, progress), prepare(told, progress)
    ear = Ear(told, spectrograms, start(told).network, torch.device("cpu"))
    rows = spectrograms.train.rows[:6]
    made = crops(spectrograms, rows, told, np.random.default_rng(0))
    assert len({int(s) for s in made.starts}) > 1
    decode = Decoder(config.listen)
    cut = np.stack([decode(row.path)[s : s + told.crop_samples] for row, s in zip(rows, made.starts, strict=True)])
    expected = LogMel(config.listen)(torch.from_numpy(cut))
    assert (ear.x_audio(made) - expected).abs().max() < 0.05  # dB, of some 20: float16
    whole, as_served = (windows(data, spectrograms.valid.rows, config.listen) for data in (spectrograms, samples))
    assert (ear.x_audio(whole) - LogMel(config.listen)(torch.from_numpy(as_served.samples))).abs().mean() < 0.02  # int16


def test_a_training_on_spectrograms_learns_and_resumes(config: TrainConfig) -> None:
    told = replace(config, spectrogram_cache=True)
    train(replace(told, output=config.output / "whole", epochs=2))
    train(replace(told, output=config.output / "halves", epochs=1))
    train(replace(told, output=config.output / "halves", epochs=2, resume=True))
    assert same(config.output / "whole/last.pt", config.output / "halves/last.pt")


def test_whole_windows_begin_where_those_of_serving_do(config: TrainConfig, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, train=1, valid=1)
    rate = config.listen.sample_rate_hz
    soundfile.write(tmp_path / "train-en-0.wav", 0.1 * np.sin(np.arange(round(2.6 * rate)) / 9), rate)
    told = replace(config, manifest=corpus, cache=None, crop_seconds=0.0, batch_size=2)
    with Progress(disable=True) as progress:
        data = prepare(told, progress)
    made = crops(data, [data.train.rows[0]] * 40, told, np.random.default_rng(0))
    assert {int(s) for s in made.starts} == {0, rate, 2 * rate}  # windows of 1 s
    assert made.samples.shape == (40, rate)


def test_batches_that_processes_cannot_share(config: TrainConfig) -> None:
    with Progress(disable=True) as progress:
        data = prepare(config, progress)
    check_team(config, data, Team(0, 3))
    for size in (4, 6):
        with pytest.raises(TrainingError, match=f"{size} processes cannot share batches of 6 rows"):
            check_team(config, data, Team(0, size))


def test_two_processes_hold_the_same_weights_and_resume(config: TrainConfig, tmp_path: Path) -> None:
    """torchrun with gloo on the CPU: what two GPUs do."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(worker), str(config.manifest)]
    for output, epochs, resume in (("whole", "2", "0"), ("halves", "1", "0"), ("halves", "2", "1")):
        process = run([*torchrun, str(tmp_path / output), epochs, resume])
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
        assert said.count("valid_loss ") == int(epochs) - (resume == "1")  # one process talks
    for output in ("whole", "halves"):
        first, second = ((tmp_path / f"{output}-{rank}.txt").read_text().split() for rank in (0, 1))
        assert first == second
        assert len(set(first)) == 2
    assert same(tmp_path / "whole/last.pt", tmp_path / "halves/last.pt")
    assert checkpoint.load(tmp_path / "whole/last.pt")["processes"] == 2
    with (tmp_path / "halves/log.csv").open() as file:
        assert len(file.readlines()) == 1 + 2
    with pytest.raises(CheckpointError, match="trained by 2 processes, not 1; start as many"):
        train_module.train(replace(config, output=tmp_path / "whole", epochs=3, resume=True))
