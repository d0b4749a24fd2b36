"""All six variants on a corpus of tones, and the table of what came out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.lab.errors import TrainingError
from app.lab.progress import Progress
from app.lab.training import loop
from app.lab.training import variants as module
from app.lab.training.recipe import Recipe
from app.lab.training.recipes.lrid_net import VARIANTS, LridNetConfig
from app.lab.training.variants import Result, run_variants, table
from tests.corpora import tiny_training, write_corpus


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> LridNetConfig:
    folder = tmp_path_factory.mktemp("variants")
    settings = tiny_training(write_corpus(folder, train=3, valid=4), folder / "runs")
    config = LridNetConfig.model_validate(settings | {"epochs": 1, "steps_per_epoch": 1})
    run_variants(config, [0], Progress())
    return config


@pytest.fixture
def config(finished: LridNetConfig, tmp_path: Path) -> LridNetConfig:
    """The finished trainings, in a folder of the test's own."""
    folder = Path(shutil.copytree(finished.catalogue.parent, tmp_path / "own"))
    own = {"catalogue": folder / "manifest.tsv", "output": folder / "runs", "cache": folder / "cache"}
    return finished.model_copy(update=own)


def test_six_variants_in_three_cases_and_nothing_twice(config: LridNetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (config.output / "variants.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "|" in line]
    given = {row[1]: [bool(cell) for cell in row[2:5]] for row in cells}
    assert given["Main"] == given["ATDr-Main"] == [True, True, True]
    assert given["TO"] == [False, True, False]
    assert given["AO"] == [False, False, True]
    assert "Validation rows of manifest.tsv: 12; seeds 0" in text
    assert "0.504 / 0.911" in text
    monkeypatch.setattr(module, "train", lambda *_: pytest.fail("trained again"))
    assert run_variants(config, [0], Progress()) == text


def test_scores_of_other_settings_or_rows_are_refused(config: LridNetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(TrainingError, match=r"main-0/scores\.json is of other steps_per_epoch; give the same"):
        run_variants(config.model_copy(update={"steps_per_epoch": 2}), [0], Progress())
    text = config.catalogue.read_text(encoding="utf-8")
    config.catalogue.write_text(text + "\tx\t\tsome words\ten\ttrain\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"scores\.json is of other data"):
        run_variants(config, [0], Progress())


def test_what_was_stopped_goes_on(config: LridNetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    (config.output / "ao-0" / "scores.json").unlink()
    resumed, real = [], loop.train

    def noted(recipe: Recipe[Any, Any], progress: Progress) -> Path:
        resumed.append((recipe.config.variant, recipe.config.resume))
        return real(recipe, progress)

    monkeypatch.setattr(module, "train", noted)
    run_variants(config, [0], Progress())
    assert resumed == [("ao", True)]


def test_the_table_shows_the_mean_and_the_range(config: LridNetConfig) -> None:
    assert set(module.NAMES) == set(VARIANTS)
    results = [Result("to", seed, 12, {"text_only": f1}, {"text_only": 0.5}) for seed, f1 in ((0, 0.2), (1, 0.4))]
    (line,) = [line for line in table(results, config).splitlines() if line.startswith("| TO")]
    assert line == "| TO |  | 0.300 / 0.500 (0.200 to 0.400) |  | 0.422 / 0.900 |"
