from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import torch
from torch import Tensor

from app.families.contract import Label
from app.families.lrid_net.config import ListenConfig, NetworkConfig, Temperatures, Thresholds
from app.families.lrid_net.network import LridNet
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net_plus.config import LridNetPlusManifest, PlusReadConfig
from app.families.lrid_net_plus.model import TABLE
from app.families.lrid_net_plus.read import PlusReader

LABELS = [
    Label(code="en", iso639_3="eng", name="English"),
    Label(code="fr", iso639_3="fra", name="French"),
    Label(code="others", iso639_3="mis", name="Other languages"),
]


@pytest.fixture(scope="session")
def read_config() -> PlusReadConfig:
    return PlusReadConfig(languages=list(langdetect_languages()), buckets_log2=8, embedding_size=4)


@pytest.fixture(scope="session")
def table(read_config: PlusReadConfig) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(read_config.n_buckets, read_config.embedding_size)).astype(np.float32)


@pytest.fixture(scope="session")
def reader(read_config: PlusReadConfig, table: np.ndarray) -> PlusReader:
    return PlusReader(read_config, table)


@pytest.fixture
def manifest(read_config: PlusReadConfig) -> LridNetPlusManifest:
    return LridNetPlusManifest(
        family="lrid_net_plus",
        release="1",
        created=date(2025, 1, 1),
        labels=LABELS,
        sha256="0" * 64,
        training={},
        metrics={},
        temperature=Temperatures(both=1.5, audio_only=3.0, text_only=2.0),
        thresholds=Thresholds(),
        listen=ListenConfig(window_seconds=2.0),
        read=read_config,
        network=NetworkConfig(base_channels=1, stage_blocks=[1, 1, 1, 1], text_units=8, identify_units=8),
    )


@pytest.fixture
def weights(manifest: LridNetPlusManifest, table: np.ndarray) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = LridNet(manifest.network, n_text=manifest.read.n_features, n_classes=len(LABELS))
    state = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    return state | {TABLE: torch.from_numpy(table).half()}
