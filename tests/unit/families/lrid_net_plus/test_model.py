from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from app.domain import AUDIO, TEXT, Metadata, Track
from app.errors import ReleaseError
from app.families.contract import Target
from app.families.lrid_net.model import listen_to_zeros
from app.families.lrid_net_plus.config import LridNetPlusManifest
from app.families.lrid_net_plus.model import TABLE, LridNetPlusModel
from app.families.store import MANIFEST, WEIGHTS, load_model


def as_the_network_says(model: LridNetPlusModel, s_audio: Tensor, x_lang: Tensor, temperature: float) -> np.ndarray:
    """Probabilities by the torch modules, without folding."""
    network = model.network
    with torch.no_grad():
        logits = network.h(torch.cat([s_audio, network.g(x_lang).expand(len(s_audio), -1)], dim=1))
        return torch.softmax(logits / temperature, dim=1).numpy()


def test_text_alone(manifest: LridNetPlusManifest, weights: dict[str, Tensor]) -> None:
    model = LridNetPlusModel(manifest, weights)
    reading = model.reader(Metadata(title="Waiting for the rain"))
    silence = torch.from_numpy(listen_to_zeros(model.network, manifest.listen))[None]
    expected = as_the_network_says(model, silence, torch.from_numpy(reading.vector)[None], 2.0)
    found = model.combine({TEXT: reading.vector}, frozenset({TEXT}))
    np.testing.assert_allclose(found.probabilities, expected[0], atol=1e-5)


def test_both_and_audio_alone(manifest: LridNetPlusManifest, weights: dict[str, Tensor]) -> None:
    model = LridNetPlusModel(manifest, weights)
    rng = np.random.default_rng(1)
    assert model.audio is not None
    samples = rng.uniform(-0.5, 0.5, (2, model.audio.window.window_samples)).astype(np.float32)
    with torch.no_grad():
        features = model.audio.listener.prepare(Target("cpu", "fp32"))(torch.from_numpy(samples))
    assert features.shape == (2, model.audio.listener.n_features)
    reading = model.reader(Metadata(artist="Nachtzug"))
    both = as_the_network_says(model, features, torch.from_numpy(reading.vector)[None], 1.5)
    answer = model.combine({AUDIO: features.numpy(), TEXT: reading.vector}, frozenset({AUDIO, TEXT}))
    np.testing.assert_allclose(answer.windows, both, atol=1e-5)
    np.testing.assert_allclose(answer.probabilities, both.mean(axis=0), atol=1e-5)
    alone = as_the_network_says(model, features, torch.zeros(1, manifest.read.n_features), 3.0)
    found = model.combine({AUDIO: features.numpy()}, frozenset({AUDIO}))
    np.testing.assert_allclose(found.windows, alone, atol=1e-5)


def test_text_without_letters_changes_nothing(manifest: LridNetPlusManifest, weights: dict[str, Tensor]) -> None:
    model = LridNetPlusModel(manifest, weights)
    features = {AUDIO: np.ones((1, model.manifest.network.n_audio_features), np.float32)}
    digits = model.reader(Metadata(title="1984"))
    assert not digits.informative
    with_digits, without = (
        model.combine(given, frozenset({AUDIO})).probabilities for given in (features | {TEXT: digits.vector}, features)
    )
    np.testing.assert_array_equal(with_digits, without)


@pytest.mark.parametrize(("change", "message"), [("gone", "missing"), ("nan", "NaN"), ("shape", "table of n-grams")])
def test_a_bad_table_is_refused(
    manifest: LridNetPlusManifest, weights: dict[str, Tensor], change: str, message: str
) -> None:
    table = weights.pop(TABLE)
    if change == "nan":
        weights[TABLE] = torch.full_like(table, torch.nan)
    if change == "shape":
        weights[TABLE] = table[:-1]
    with pytest.raises(ReleaseError, match=message):
        LridNetPlusModel(manifest, weights)


def test_weights_of_another_network_are_refused(manifest: LridNetPlusManifest, weights: dict[str, Tensor]) -> None:
    weights["h.1.bias"] = torch.zeros(4)
    with pytest.raises(ReleaseError, match=r"h\.1\.bias"):
        LridNetPlusModel(manifest, weights)


def test_the_store_loads_the_family(tmp_path: Path, manifest: LridNetPlusManifest, weights: dict[str, Tensor]) -> None:
    data = save({name: tensor.contiguous() for name, tensor in weights.items()})
    folder = tmp_path / "lrid_net_plus" / "1"
    folder.mkdir(parents=True)
    stored = manifest.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    (folder / WEIGHTS).write_bytes(data)
    (folder / MANIFEST).write_text(stored.model_dump_json(), encoding="utf-8")
    model = load_model(folder)
    assert model.manifest == stored
    reading = model.inputs[TEXT].read(Track(None, Metadata(title="La mer")))
    assert reading is not None
    assert reading.informative


def test_unknown_keys_and_doubled_labels_are_refused(manifest: LridNetPlusManifest) -> None:
    plain = manifest.model_dump(mode="json")
    with pytest.raises(ValidationError, match="surprise"):
        LridNetPlusManifest.model_validate({**plain, "read": {**plain["read"], "surprise": 1}})
    with pytest.raises(ValidationError, match="distinct"):
        LridNetPlusManifest.model_validate({**plain, "labels": [plain["labels"][0]] * 2})
