"""Training of the text's side: it learns, goes on where it stopped, and keeps rows apart that must be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.lab.training.corpus import Row
from app.lab.training.errors import CheckpointError, CorpusError, TrainingError
from app.lab.training.plus_data import Shelf, draw_probabilities, texts_of
from app.lab.training.plus_folds import HeldOut, fold_of, held_out_answers
from app.lab.training.plus_merge import merged, tilted
from app.lab.training.train_plus import PlusConfig, TextNet, fit_rows, load_text, predict, train_text


def accuracy(network: TextNet, shelf: Shelf, rows: list[Row]) -> float:
    logits = predict(network, shelf, [texts_of(row.metadata) for row in rows])
    return float((logits.argmax(dim=1).numpy() == [row.label for row in rows]).mean())


def test_it_learns_words_for_other_artists(trained: TextNet, shelf: Shelf, rows: list[Row], config: PlusConfig) -> None:
    assert accuracy(trained, shelf, [row for row in rows if row.split == "test"]) > 0.9
    assert len((config.output / "log.jsonl").read_text().splitlines()) == config.epochs


def test_without_text_the_answer_is_the_class_mix(trained: TextNet, shelf: Shelf, config: PlusConfig) -> None:
    logits = predict(trained, shelf, [(None, None, None), ("1984", None, "12")])
    assert logits[0].tolist() == logits[1].tolist()
    assert int(logits[0].argmax()) == int(config.class_mix().argmax())


def test_resuming_ends_at_the_same_weights(config: PlusConfig, trained: TextNet, tmp_path: Path) -> None:
    again = replace(config, output=tmp_path)
    train_text(again)
    whole = torch.load(tmp_path / "text.pt", weights_only=True)
    assert all(torch.equal(tensor, whole["network"][name]) for name, tensor in trained.state_dict().items())
    with pytest.MonkeyPatch.context() as patch:  # killed after the second of three epochs
        patch.setattr("app.lab.training.train_plus._score", _killed_at(2))
        with pytest.raises(KeyboardInterrupt):
            train_text(replace(config, output=tmp_path / "cut"))
    train_text(replace(config, output=tmp_path / "cut", resume=True))
    resumed = torch.load(tmp_path / "cut" / "text.pt", weights_only=True)
    assert all(torch.equal(tensor, whole["network"][name]) for name, tensor in resumed["network"].items())


def _killed_at(epoch: int):
    calls = iter(range(100))

    def score(*_: object) -> dict[str, float]:
        if next(calls) == epoch:
            raise KeyboardInterrupt
        return {}

    return score


def test_a_checkpoint_of_another_training_is_refused(config: PlusConfig, trained: TextNet) -> None:
    with pytest.raises(CheckpointError, match="its seed is 0, this training's is 5"):
        load_text(config.output / "text.pt", replace(config, seed=5))


def test_every_class_needs_a_count_and_rows(config: PlusConfig, rows: list[Row]) -> None:
    with pytest.raises(TrainingError, match="no count for de"):
        replace(config, class_counts={"en": 1, "fr": 1}).class_mix()
    with pytest.raises(CorpusError, match="no training rows of class number 2"):
        draw_probabilities([row for row in rows if row.label != 2], config.class_mix(), {})


def test_a_class_may_be_rarer_where_all_letters_are_latin(
    trained: TextNet, shelf: Shelf, rows: list[Row], config: PlusConfig
) -> None:
    """German as it is Japanese elsewhere: all its rows are Latin, so that a hundredth is left of its odds, give or take."""
    rarer = fit_rows(replace(config, latin_shares={"de": 0.01}), [row for row in rows if row.split == "train"], shelf)
    texts = [("Somebody", None, "Something"), (None, None, "La Luna"), ("Artist", "Album", "Title")]
    change = predict(rarer, shelf, texts) - predict(trained, shelf, texts)
    assert -7 < float((change[:, 2] - change[:, 0]).mean()) < -2
    unread = predict(rarer, shelf, [("1984", None, None)]) - predict(trained, shelf, [("1984", None, None)])
    assert float(unread.abs().max()) < 2


def test_held_out_rows_are_answered_by_networks_that_never_saw_their_artists(
    held_out: HeldOut, rows: list[Row], config: PlusConfig
) -> None:
    asked = [row for row in rows if row.split != "test"]
    assert sorted(held_out.labels.tolist()) == sorted(row.label for row in asked)
    assert {fold_of(row, 2) for row in asked} == {0, 1}
    assert len({(row.metadata.artist, fold_of(row, 2)) for row in asked}) == len({row.metadata.artist for row in asked})
    whole = held_out.logits["all fields"]
    assert whole.shape == (len(asked), 3)
    assert (whole.argmax(axis=1) == held_out.labels).mean() > 0.85
    assert not np.array_equal(whole, held_out.logits["title only"])
    with pytest.raises(CorpusError, match="no rows of elsewhere"):
        held_out_answers(config, ["elsewhere"])


def test_several_networks_become_one_that_answers_their_mean(config: PlusConfig, trained: TextNet, shelf: Shelf) -> None:
    torch.manual_seed(3)
    other = TextNet(config)
    with torch.no_grad():
        other.g[0][1].running_mean.normal_()  # type: ignore[index, union-attr]
    whole, wide = merged([trained, other], config)
    assert wide.network.text_units == 2 * config.network.text_units
    texts = [("Nachtzug", None, "Über alles"), (None, "La nuit", None), (None, None, None)]
    mean = (predict(trained, shelf, texts) + predict(other, shelf, texts)) / 2
    torch.testing.assert_close(predict(whole, shelf, texts), mean, atol=1e-4, rtol=1e-4)


def test_a_network_may_answer_with_another_class_mix(config: PlusConfig, trained: TextNet, shelf: Shelf) -> None:
    mix, wanted = config.class_mix(), np.array([0.2, 0.2, 0.6])
    texts = [("Nachtzug", None, "La nuit"), (None, None, None)]
    before, after = (
        torch.softmax(predict(network, shelf, texts) / 1.5, dim=1).numpy()
        for network in (trained, tilted(trained, mix, wanted, temperature=1.5))
    )
    expected = before * wanted / mix
    np.testing.assert_allclose(after, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)


def test_the_settings_of_a_run_are_kept(config: PlusConfig, trained: TextNet) -> None:
    kept = json.loads((config.output / "config.json").read_text(encoding="utf-8"))
    assert kept["habits"]["give_artist"] == config.habits.give_artist
    assert kept["class_mix"] == [0.5, 0.25, 0.25]
