"""A corpus small enough to train on in seconds, and the settings to do it with."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.lab.training.config import TrainConfig
from tests.corpora import LABELS, LISTEN, NETWORK, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        manifest=corpus,
        output=tmp_path / "run",
        cache=corpus.parent / "cache",
        epochs=2,
        batch_size=6,
        crop_seconds=0.5,
        precision="fp32",
        device="cpu",
        threads=1,
        labels=LABELS,
        listen=LISTEN,
        network=NETWORK,
        learning_rate=3e-3,
    )
