from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from app.lab.training import checkpoint
from app.lab.training import train as train_module
from app.lab.training.config import TrainConfig
from app.lab.training.data import crops, prepare
from app.lab.training.errors import CheckpointError, CorpusError, TrainingError
from app.lab.training.train import Batch, batch_loss, batches, learning_rate, steps_per_epoch, train
from app.lab.training.validate import Ear
from tests.corpora import LABELS, write_corpus


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path)["network"]


def test_a_training_leaves_checkpoints_a_log_and_curves(config: TrainConfig) -> None:
    best = train(config)
    assert best == config.output / "best.pt"
    with (config.output / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row["train_loss"]) > 0 and float(row["valid_loss_audio_only"]) > 0 for row in rows)
    assert (config.output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert checkpoint.load(best)["class_prior"] == pytest.approx([1 / 3] * 3)


def test_it_learns_what_can_be_learnt(config: TrainConfig) -> None:
    train(replace(config, epochs=12, steps_per_epoch=10, audio_loss_weight=1.0))
    with (config.output / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = min(rows, key=lambda row: float(row["valid_loss"]))
    assert float(best["valid_accuracy_both"]) > 0.8  # chance 1/3; tones of three pitches and three languages
    assert float(best["valid_accuracy_audio_only"]) > 0.6


def test_resume_gives_the_weights_of_an_uninterrupted_run(config: TrainConfig) -> None:
    whole = replace(config, output=config.output / "whole", epochs=3)
    halves = replace(config, output=config.output / "halves", epochs=1)
    train(whole)
    train(halves)
    train(replace(halves, epochs=3, resume=True))
    expected, found = weights(whole.output / "last.pt"), weights(halves.output / "last.pt")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    with (halves.output / "log.csv").open() as file:
        assert len(file.readlines()) == 1 + 3


def test_resume_inside_an_epoch_too(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replace(config, output=config.output / "whole", epochs=2)
    train(whole)
    cut = replace(config, output=config.output / "cut", epochs=2, checkpoint_minutes=0.0)
    steps_done = 0
    real = train_module.batch_loss

    def killed_after_five_steps(*args: object) -> torch.Tensor:
        nonlocal steps_done
        steps_done += 1
        if steps_done > 5:  # three steps an epoch: in the middle of the second
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(train_module, "batch_loss", killed_after_five_steps)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    monkeypatch.undo()
    assert checkpoint.load(cut.output / "last.pt")["step"] == 2
    train(replace(cut, resume=True))
    expected, found = weights(whole.output / "last.pt"), weights(cut.output / "last.pt")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_early_stopping_counts_epochs_without_a_better_loss(config: TrainConfig) -> None:
    train(replace(config, epochs=30, patience_epochs=1, learning_rate=0.5))  # far too large: it soon gets worse
    with (config.output / "log.csv").open(newline="") as file:
        losses = [float(row["valid_loss"]) for row in csv.DictReader(file)]
    assert len(losses) < 30
    assert len(losses) - 1 - int(np.argmin(losses)) == 1  # epochs after the best one: as many as the patience


@pytest.mark.parametrize("variant", ["main", "adr", "tdr", "to", "ao"])
def test_every_variant_trains(config: TrainConfig, variant: str) -> None:
    train(replace(config, variant=variant, epochs=1))
    with (config.output / "log.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    cases = {name.removeprefix("valid_loss_") for name in row if name.startswith("valid_loss_") and row[name]}
    assert (
        cases
        == {
            "main": {"both"},
            "adr": {"both", "text_only"},
            "tdr": {"both", "audio_only"},
            "to": {"text_only"},
            "ao": {"audio_only"},
        }[variant]
    )


def test_text_rows_join_batches_and_are_drawn_by_class(config: TrainConfig, tmp_path: Path) -> None:
    more = tmp_path / "more.tsv"
    lines = [f"{'en' if i else 'fr'}\ttrain\tname {i}\tsome words {i}" for i in range(10)]
    more.write_text("label\tsplit\tartist\ttitle\n" + "\n".join(lines) + "\n", encoding="utf-8")
    told = replace(config, text_manifest=more, text_rows_per_batch=12, text_class_power=0.0)
    with Progress(disable=True) as progress:
        data = prepare(told, progress)
    assert data.class_prior == pytest.approx([4 / 9, 4 / 9, 1 / 9])  # 6 rows evenly in three, 12 evenly in two
    (batch, *_) = batches(told, data, 0, 1)
    assert len(batch.audio) == 6
    assert len(batch.text) == 12
    train(replace(told, epochs=1))


def test_rows_with_audio_come_once_a_pass_in_a_new_order(config: TrainConfig) -> None:
    with Progress(disable=True) as progress:
        data = prepare(config, progress)
    steps = steps_per_epoch(config, data)
    first = np.concatenate([batch.audio for batch in batches(config, data, 0, steps)])
    again = np.concatenate([batch.audio for batch in batches(config, data, 0, steps)])
    second = np.concatenate([batch.audio for batch in batches(config, data, 1, steps)])
    assert sorted(first) == list(range(18))
    assert (first == again).all()
    assert (first != second).any()


def test_crops_lie_inside_the_clip_and_short_clips_repeat(config: TrainConfig) -> None:
    with Progress(disable=True) as progress:
        data = prepare(config, progress)
    row = data.train.rows[0]
    clip = data.waveforms.read(row)
    rng = np.random.default_rng(0)
    (crop,) = crops(data, [row], config, rng).samples
    starts = [s for s in range(len(clip) - len(crop) + 1) if np.array_equal(clip[s : s + 50], crop[:50])]
    assert any(np.array_equal(clip[s : s + len(crop)], crop) for s in starts)
    long = replace(config, crop_seconds=2.0)
    (repeated,) = crops(data, [row], long, rng).samples
    np.testing.assert_array_equal(repeated, np.resize(clip, 2 * 22_050))


def test_augmented_crops_keep_their_length_and_change(config: TrainConfig) -> None:
    told = replace(config, augment=True)
    with Progress(disable=True) as progress:
        data = prepare(told, progress)
    made = crops(data, data.train.rows[:4], told, np.random.default_rng(0)).samples
    plain = crops(data, data.train.rows[:4], config, np.random.default_rng(0)).samples
    assert made.shape == plain.shape == (4, 11_025)
    assert not np.array_equal(made, plain)
    train(replace(told, epochs=1))


def test_keeping_f_trains_only_g_and_h(config: TrainConfig) -> None:
    first = train(config)
    second = replace(config, output=config.output / "second", init_from=first, freeze_listener=True)
    before, after = weights(first), weights(train(second))
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("f."))
    assert not torch.equal(before["g.0.0.weight"], after["g.0.0.weight"])
    assert len(checkpoint.load(second.output / "best.pt")["history"]) == 1


def test_fresh_heads_take_f_only(config: TrainConfig) -> None:
    first = train(replace(config, epochs=1))
    state = train_module.start(replace(config, init_from=first, fresh_heads=True, seed=1))
    before, after = weights(first), state.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("f."))
    assert not torch.equal(before["h.1.weight"], after["h.1.weight"])
    assert not torch.equal(before["g.0.0.weight"], after["g.0.0.weight"])


def test_a_loss_that_is_not_finite_stops_with_a_remedy(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "cross_entropy", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 0, step 0.*begin again with a --learning-rate under"):
        train(config)


def test_a_checkpoint_of_another_variant_is_refused(config: TrainConfig) -> None:
    train(replace(config, epochs=1))
    with pytest.raises(CheckpointError, match="variant is atdr, this training's is adr"):
        train(replace(config, variant="adr", resume=True))


def test_a_checkpoint_of_other_classes_is_refused(config: TrainConfig) -> None:
    first = train(replace(config, epochs=1))
    labels = (*LABELS[:2], LABELS[2].model_copy(update={"code": "ja2"}))
    other = replace(config, labels=labels, init_from=first, output=config.output / "other")
    with pytest.raises((CheckpointError, CorpusError), match=r"labels|unknown label"):
        train(other)


def test_resume_without_or_with_a_damaged_checkpoint(config: TrainConfig) -> None:
    with pytest.raises(CheckpointError, match="start without --resume"):
        train(replace(config, resume=True))
    config.output.mkdir(exist_ok=True)
    (config.output / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        train(replace(config, resume=True))


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"network": {}, "variant": "atdr"})

    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file: no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"no space left.*--resume"):
        checkpoint.save(path, {"network": {}, "variant": "to"})
    monkeypatch.undo()
    assert checkpoint.load(path)["variant"] == "atdr"


def test_learning_rate_warms_up_and_ends_at_zero(config: TrainConfig) -> None:
    told = replace(config, warmup_steps=4, schedule="cosine", epochs=10)
    rates = [learning_rate(told, 10, epoch, step) for epoch in range(10) for step in range(10)]
    assert rates[0] == pytest.approx(told.learning_rate / 4)
    assert max(rates) < told.learning_rate
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rate(told, 10, 10, 0) == pytest.approx(0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variant": "maine"}, "unknown variant"),
        ({"variant": "main", "text_rows_per_batch": 8}, "a kind of audio dropout"),
        ({"freeze_listener": True}, "need init_from"),
        ({"fresh_heads": True}, "need init_from"),
        ({"batch_size": 1}, "at least 2"),
    ],
)
def test_settings_that_contradict_each_other(config: TrainConfig, changes: dict, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        replace(config, **changes)


@pytest.mark.parametrize(
    ("broken", "says"),
    [("missing", "cannot be opened"), ("random", "cannot be decoded"), ("silent", "it is silent")],
)
def test_audio_that_cannot_be_used_names_its_row(config: TrainConfig, tmp_path: Path, broken: str, says: str) -> None:
    import soundfile as sf

    manifest = write_corpus(tmp_path, train=2, valid=1)
    victim = tmp_path / "train-fr-1.wav"
    if broken == "missing":
        victim.unlink()
    elif broken == "random":
        victim.write_bytes(bytes(range(256)) * 40)
    else:
        sf.write(victim, np.zeros(22_050), 22_050)
    with pytest.raises(CorpusError, match=rf"line 6: .*train-fr-1\.wav.*{says}"):
        train(replace(config, manifest=manifest, cache=tmp_path / "cache"))


def test_no_validation_rows_is_an_error(config: TrainConfig, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, train=2, valid=0)
    with pytest.raises(CorpusError, match="no row has split=valid"):
        train(replace(config, manifest=manifest, cache=tmp_path / "cache"))


def test_a_domain_does_not_learn_about_classes_it_lacks(config: TrainConfig, tmp_path: Path) -> None:
    """However wrongly it answers with a class that has no such rows, nothing is to be learnt from it."""
    lines = config.manifest.read_text(encoding="utf-8").splitlines()
    folder, kept = config.manifest.parent, [line for line in lines[1:] if "\tja\t" not in line]
    others = [f"{folder / line}\t{domain}" for domain, part in (("human", kept), ("", lines[1:])) for line in part]
    manifest = tmp_path / "domains.tsv"
    manifest.write_text("\n".join([lines[0] + "\tdomain", *others]) + "\n", encoding="utf-8")
    with Progress(disable=True) as progress:
        data = prepare(replace(config, manifest=manifest), progress)
    state = train_module.start(config)
    with torch.no_grad():
        state.network.h[1].bias[2] = 40.0
    ear = Ear(config, data, state.network, torch.device("cpu"))
    human = np.flatnonzero([row.domain == "human" for row in data.train.rows])
    for rows, low, high in ((human, 0.0, 5.0), (np.flatnonzero(data.train.classes.all(axis=1)), 10.0, 60.0)):
        loss = batch_loss(config, data, state, ear, Batch(rows, np.zeros(0, np.int64)), np.random.default_rng(0))
        assert low < loss.item() < high
