"""A release of `tagging`: averages, thresholds and the answer."""

from datetime import date
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from app.domain import AUDIO, Scores
from app.errors import ReleaseError, UnknownLanguage
from app.families.contract import Target
from app.families.parts.configs import MelConfig
from app.families.parts.weights import COUNTER
from app.families.tagging.manifest import AudioConfig, LstmConfig, MelCnnConfig, NetworkConfig, TaggingManifest
from app.families.tagging.model import TaggingModel, TagsTask
from app.families.tagging.networks import build_network
from app.families.tasks import View, headline_of

TAGS = ["guitar", "no_vocal", "loud"]
THRESHOLDS = [0.6, 0.2, 0.9]
HEARD = frozenset({AUDIO})
CLIP = AudioConfig(sample_rate_hz=4000, window_samples=4000)
LSTM = LstmConfig(mel=MelConfig(fft_size=256, hop_size=64, mel_bands=16), segments=2, units=5, convolutions=2)


def manifest(network: NetworkConfig = LSTM, **changes: Any) -> TaggingManifest:
    labels = [{"code": code, "name": code.replace("_", " ")} for code in TAGS]
    given = {"family": "tagging", "release": "1", "created": date(2026, 1, 1), "labels": labels, "sha256": "0" * 64}
    given |= {"training": {}, "metrics": {}, "audio": CLIP, "network": network, "thresholds": THRESHOLDS}
    return TaggingManifest.model_validate(given | changes)


def weights(network: NetworkConfig = LSTM) -> dict[str, Tensor]:
    torch.manual_seed(0)
    stored = build_network(network, CLIP, len(TAGS)).state_dict()
    return {name: tensor for name, tensor in stored.items() if COUNTER not in name}


def task() -> TagsTask:
    return TagsTask(manifest().languages, THRESHOLDS)


def scores(*windows: list[float]) -> Scores:
    rows = np.array(windows, np.float32)
    return Scores(rows.mean(axis=0), rows)


def test_each_tag_applies_from_its_own_threshold_on() -> None:
    answer = task().answer(scores([0.55, 0.25, 0.91]), HEARD, View())
    assert answer["tags"] == [
        {"code": "loud", "name": "loud", "probability": 0.91, "applies": True},
        {"code": "guitar", "name": "guitar", "probability": 0.55, "applies": False},
        {"code": "no_vocal", "name": "no vocal", "probability": 0.25, "applies": True},
    ]
    assert task().headline(answer) == ("loud", 0.91)
    found = headline_of(answer)
    assert (found.label, found.probability, found.runner_up) == ("loud", 0.91, answer["tags"][1])


def test_candidates_keep_their_probabilities_and_top_k_cuts_the_list() -> None:
    heard = scores([0.55, 0.25, 0.91])
    some = task().answer(heard, HEARD, View(candidates=("guitar", "no_vocal")))["tags"]
    assert [(tag["code"], tag["probability"]) for tag in some] == [("guitar", 0.55), ("no_vocal", 0.25)]
    assert [tag["code"] for tag in task().answer(heard, HEARD, View(top_k=1))["tags"]] == ["loud"]
    with pytest.raises(UnknownLanguage, match="'oboe' is not among guitar, no_vocal, loud"):
        task().check(View(candidates=("guitar", "oboe")))


def test_every_window_has_tags_of_its_own() -> None:
    moments = task().moments(scores([0.9, 0.1, 0.2], [0.1, 0.8, 0.2]), HEARD, View(top_k=1))
    assert [moment["tags"][0]["code"] for moment in moments] == ["guitar", "no_vocal"]


def test_probabilities_are_averaged_over_segments_and_windows() -> None:
    model = TaggingModel(manifest(), weights())
    logits = np.array([[0.0, 2.0, -2.0, 4.0, 2.0, -90.0], [1.0, 1.0, 1.0, 1.0, 1.0, 90.0]], np.float32)
    found = model.combine({AUDIO: logits}, HEARD)
    expected = (1 / (1 + np.exp(-logits.astype(np.float64)))).reshape(2, 2, 3).mean(axis=1)
    assert found.windows == pytest.approx(expected, abs=1e-6)
    assert found.probabilities == pytest.approx(expected.mean(axis=0), abs=1e-6)
    assert np.isfinite(model.combine({}, frozenset()).probabilities).all()


def test_the_listener_gives_the_same_alone_and_in_a_batch() -> None:
    model = TaggingModel(manifest(), weights())
    assert model.audio is not None
    listen = model.audio.listener.prepare(Target("cpu", "fp32"))
    model.audio.listener.forget()
    sound = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.inference_mode():
        both, alone = listen(sound), listen(sound[1:])
    assert both.shape == (2, model.audio.listener.n_features) == (2, 6)
    assert both[1:] == pytest.approx(alone, abs=1e-6)
    with pytest.raises(ReleaseError, match="listens in fp32, not in bf16"):
        TaggingModel(manifest(), weights()).audio.listener.prepare(Target("cuda", "bf16"))  # type: ignore[union-attr]


def test_weights_and_manifest_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ReleaseError, match=r"tensor 'tags.bias' holds NaN"):
        TaggingModel(manifest(), weights() | {"tags.bias": torch.full((3,), torch.nan)})
    with pytest.raises(ReleaseError, match=r"tensors do not fit the manifest"):
        TaggingModel(
            manifest(), weights(MelCnnConfig(mel=MelConfig(fft_size=256, hop_size=128, mel_bands=24), channels=[4]))
        )
    with pytest.raises(ReleaseError, match=r"audio.window_samples: the window is too short"):
        TaggingModel(manifest(audio=AudioConfig(window_samples=100)), weights())
    with pytest.raises(ValidationError, match="thresholds: 3 are needed, one for each label; there are 2"):
        manifest(thresholds=[0.5, 0.5])
    with pytest.raises(ValidationError, match="network"):
        TaggingManifest.model_validate(manifest().model_dump() | {"network": {"kind": "transformer"}})
