"""All six variants on a corpus of tones, and the table of what came out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from app.lab.training import variants as module
from app.lab.training.config import VARIANTS, TrainConfig
from app.lab.training.errors import TrainingError
from app.lab.training.variants import Result, run_variants, table
from tests.corpora import write_corpus

QUIET = Console(quiet=True)


def test_six_variants_in_three_cases_and_nothing_twice(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    told = replace(config, epochs=1, steps_per_epoch=2, validate_items=3)
    results = run_variants(told, [0], QUIET)
    assert [result.variant for result in results] == list(VARIANTS)
    assert {result.rows for result in results} == {12}, "the same rows for all, whatever each validation hears"
    by_variant = {result.variant: result for result in results}
    assert set(by_variant["to"].macro_f1) == {"text_only"}
    assert set(by_variant["ao"].macro_f1) == {"audio_only"}
    assert set(by_variant["main"].macro_f1) == {"both", "audio_only", "text_only"}
    text = (config.output / "variants.md").read_text(encoding="utf-8")
    assert "| Main |" in text
    assert ".504 / 0.911" in text
    assert len(json.loads((config.output / "variants.json").read_text(encoding="utf-8"))) == 6

    monkeypatch.setattr(module, "train", lambda config: pytest.fail("trained again"))
    assert run_variants(told, [0], QUIET) == results


def test_scores_of_other_settings_or_rows_are_refused(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = replace(config, manifest=write_corpus(tmp_path), cache=None, epochs=1, steps_per_epoch=1)
    run_variants(told, [0], QUIET)
    monkeypatch.setattr(module, "train", lambda config: pytest.fail("trained"))
    with pytest.raises(TrainingError, match=r"main-0/scores\.json is of a training with steps_per_epoch = 1, not 2; give"):
        run_variants(replace(told, steps_per_epoch=2), [0], QUIET)
    with pytest.raises(TrainingError, match=r"with init_from = None, not first\.pt; .*delete .*main-0 to train it anew"):
        run_variants(replace(told, init_from=Path("first.pt")), [0], QUIET)
    run_variants(replace(told, threads=2, checkpoint_minutes=1.0), [0], QUIET)
    told.manifest.write_text(told.manifest.read_text(encoding="utf-8") + "\tx\t\tsome words\ten\ttrain\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"scores\.json: the manifest has changed since"):
        run_variants(told, [0], QUIET)
    with pytest.raises(TrainingError, match="the manifest cannot be read"):
        run_variants(replace(told, manifest=tmp_path / "gone.tsv"), [0], QUIET)


def test_what_was_stopped_goes_on(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    told = replace(config, epochs=1, steps_per_epoch=1)
    run_variants(told, [0], QUIET)
    (config.output / "ao-0" / "scores.json").unlink()
    resumed = []
    monkeypatch.setattr(module, "train", lambda config: resumed.append((config.variant, config.resume)))
    run_variants(told, [0], QUIET)
    assert resumed == [("ao", True)]


def test_the_table_shows_the_mean_and_the_range(config: TrainConfig) -> None:
    results = [Result("to", seed, 12, {"text_only": f1}, {"text_only": 0.5}) for seed, f1 in ((0, 0.2), (1, 0.4))]
    (line,) = [line for line in table(results, config).splitlines() if line.startswith("| TO")]
    assert line == "| TO |  | 0.300 / 0.500 (0.200 to 0.400) |  | 0.422 / 0.900 |"
