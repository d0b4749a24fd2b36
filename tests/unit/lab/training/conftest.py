"""A corpus small enough to train on in seconds, and the settings to do it with."""

from pathlib import Path
from typing import Any

import pytest

from app.lab.training.recipes.lrid_net import LridNetConfig
from tests.corpora import tiny_training, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    return tiny_training(corpus, tmp_path / "run")


@pytest.fixture
def config(settings: dict[str, Any]) -> LridNetConfig:
    return LridNetConfig.model_validate(settings)
