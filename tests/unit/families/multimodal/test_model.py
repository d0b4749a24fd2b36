"""A release in memory, of the default sizes: how its answer is put together, and how long that takes."""

from datetime import date

import numpy as np
import pytest
import torch

from app.domain import AUDIO, FloatArray
from app.errors import ReleaseError
from app.families.contract import Label
from app.families.multimodal.manifest import MultimodalManifest, ResNetConfig, SegmentConfig, TimbralConfig
from app.families.multimodal.model import CONSUMPTION, MultimodalModel
from app.families.multimodal.network import MultimodalNetwork
from app.families.parts.configs import WhisperConfig
from app.families.parts.weights import COUNTER
from app.families.parts.whisper import Ears, Whisper
from app.families.parts.whisper_weights import stored_ears

MANIFEST = MultimodalManifest(
    family="multimodal", release="1", created=date(2026, 1, 1), sha256="0" * 64, training={}, metrics={},
    labels=[Label(code=code, iso639_3=None, name=code) for code in "abcdefghijk"],
    listen=WhisperConfig(n_mels=40, n_positions=50, n_state=512, n_head=8, n_layer=1),
    segments=SegmentConfig(), most_windows=8, timbral=TimbralConfig(n_components=3, n_codewords=64), consumption=32,
    network=ResNetConfig(), thresholds={},
)  # fmt: skip
BOTH = frozenset({AUDIO, CONSUMPTION})


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    whisper = Whisper(MANIFEST.listen)
    torch.nn.init.normal_(whisper.encoder.positions)
    torch.nn.init.normal_(whisper.decoder.start)
    ears = Ears(MANIFEST.listen, whisper.requires_grad_(False), torch.zeros(512))
    network = MultimodalNetwork(MANIFEST.network, MANIFEST.sizes, len(MANIFEST.labels), MANIFEST.timbral)
    return stored_ears(ears) | {name: t for name, t in network.state_dict().items() if COUNTER not in name}


@pytest.fixture(scope="module")
def model(weights: dict[str, torch.Tensor]) -> MultimodalModel:
    return MultimodalModel(MANIFEST, weights)


def song(n_windows: int = 8) -> dict[str, FloatArray]:
    """Two segments in each window, of .1 to 4 s."""
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(n_windows, 2 * 513 + 129)).astype(np.float32)
    heard[:, [512, 1025]] = rng.uniform(0.1, 4, (n_windows, 2))
    heard[:, -1] = 300
    return {AUDIO: heard, CONSUMPTION: rng.normal(size=32).astype(np.float32)}


def test_segments_count_by_their_seconds(model: MultimodalModel) -> None:
    given = song(2)
    timbral = {"timbral": np.concatenate([given[AUDIO][:, 1026:1090].max(axis=0), given[AUDIO][:, 1090:1154].mean(axis=0)])}
    vocals = given[AUDIO][:, :1026].reshape(4, 513)
    each = model.head(timbral | {"vocals": vocals[:, :512], CONSUMPTION: given[CONSUMPTION]})
    found = model.combine(given, BOTH)
    assert found.probabilities == pytest.approx(np.average(each, axis=0, weights=vocals[:, 512]), abs=1e-5)
    assert found.windows[1] == pytest.approx(np.average(each[2:], axis=0, weights=vocals[2:, 512]), abs=1e-5)
    assert each.std(axis=0).max() > 1e-3


def test_tensors_that_do_not_fit_are_named(weights: dict[str, torch.Tensor]) -> None:
    for name, broken in (
        ("missing", torch.zeros(5)),
        ("blocks.1.0.conv.weight", torch.zeros(3)),
        ("unknown", torch.ones(1)),
    ):
        with pytest.raises(ReleaseError, match=f"'{name}' should be"):
            MultimodalModel(MANIFEST, weights | {name: broken})
    with pytest.raises(ReleaseError, match=r"'timbral\.means' holds NaN"):
        MultimodalModel(MANIFEST, weights | {"timbral.means": torch.full((64, 9), torch.nan)})
