import pytest
import torch
from torch import Tensor

from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.reader import NgramReader, shapes
from app.families.parts.profiles import langdetect_languages


@pytest.fixture(scope="session")
def config() -> NgramConfig:
    return NgramConfig(
        class_mix={"en": 0.5, "fr": 0.3, "others": 0.2},
        languages=list(langdetect_languages()),
        buckets_log2=8,
        embedding_size=4,
        networks=2,
        hidden_units=[8, 6],
    )


@pytest.fixture(scope="session")
def tensors(config: NgramConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).half().float() for name, shape in shapes(config).items()}


@pytest.fixture(scope="session")
def reader(config: NgramConfig, tensors: dict[str, Tensor]) -> NgramReader:
    return NgramReader(config, tensors)
