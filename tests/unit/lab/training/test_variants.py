"""All six variants on a corpus of tones, and the table of what came out."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.lab.errors import CheckpointError
from app.lab.evaluation.metrics import Average
from app.lab.evaluation.report import label_report
from app.lab.progress import Progress
from app.lab.training.recipes.lrid_net import VARIANTS, LridNetConfig
from app.lab.training.variants import NAMES, Results, run_variants, table
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


def test_six_variants_in_three_cases_and_nothing_twice(config: LridNetConfig) -> None:
    text = (config.output / "variants.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "|" in line]
    given = {row[1]: [bool(cell) for cell in row[2:5]] for row in cells}
    assert given["Main"] == given["ATDr-Main"] == [True, True, True]
    assert given["TO"] == [False, True, False]
    assert given["AO"] == [False, False, True]
    assert "Validation rows of manifest.tsv: 12; seeds 0" in text
    assert "0.504 / 0.911" in text
    shutil.rmtree(config.output / "ao-0")
    before = {path: path.stat().st_mtime_ns for path in config.output.glob("*/best.pt")}
    assert run_variants(config, [0], Progress()) == text, "the same seed gives the same figures"
    assert before == {path: path.stat().st_mtime_ns for path in before}, "trained again"


def test_checkpoints_of_other_settings_or_rows_are_refused(config: LridNetConfig) -> None:
    with pytest.raises(CheckpointError, match=r"main-0/last\.pt: it was trained with steps_per_epoch = 1, not 2"):
        run_variants(config.model_copy(update={"steps_per_epoch": 2}), [0], Progress())
    text = config.catalogue.read_text(encoding="utf-8")
    config.catalogue.write_text(text + "\tx\t\tsome words\ten\ttrain\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"last\.pt: the rows or their audio have changed"):
        run_variants(config, [0], Progress())


def test_the_table_shows_the_mean_and_the_range(config: LridNetConfig) -> None:
    assert set(NAMES) == set(VARIANTS)
    rows = label_report(np.zeros(12, np.int64), np.zeros(12, np.int64), config.codes)
    results: Results = {
        ("to", seed): {"text_only": replace(rows, macro=Average(0, 0, f1), weighted=Average(0, 0, 0.5))}
        for seed, f1 in ((0, 0.2), (1, 0.4))
    }
    (line,) = [line for line in table(results, config).splitlines() if line.startswith("| TO")]
    assert line == "| TO |  | 0.300 / 0.500 (0.200 to 0.400) |  | 0.422 / 0.900 |"
