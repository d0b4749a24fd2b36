"""The release that ships, on names made for this test: a script of its own decides, whatever the class mix says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.domain import Metadata
from app.families.contract import Model
from app.families.store import load_model, release_folder
from app.settings import REPOSITORY, Settings


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(release_folder(Path(REPOSITORY) / "model_store", Settings.model_fields["model"].default))


@pytest.mark.parametrize(
    ("title", "code"),
    [
        ("사랑한다고 말해줘", "ko"), ("봄비가 내리는 밤", "ko"), ("너를 기다리며", "ko"), ("돌아와", "ko"),
        ("桜の花が咲く頃に", "ja"), ("あなたに会いたい", "ja"), ("ありがとう", "ja"), ("夏の終わりの海", "ja"),
        ("Тёмная ночь над рекой", "others"), ("Waiting for the Rain", "en"), ("Sexy Night, Oh No", "en"),
    ],
)  # fmt: skip
def test_titles_in_their_own_script(model: Model, title: str, code: str) -> None:
    answer = model.identify(None, model.read(Metadata(title=title))).mean
    codes = [label.code for label in model.manifest.labels]
    assert codes[int(answer.argmax())] == code, dict(zip(codes, answer.round(3).tolist(), strict=True))


def test_audio_alone_is_the_class_mix_and_is_not_answered(model: Model) -> None:
    """So its calibration is that of the mix, and `LRID_CATALOG_PRIOR` exchanges it."""
    alone = model.identify(np.zeros((1, model.n_audio_features), np.float32), None).mean
    mix = model.manifest.training["class_prior"]
    assert alone.max() < model.manifest.thresholds.audio_only
    for label, share in zip(model.manifest.labels, alone.tolist(), strict=True):
        assert share == pytest.approx(mix[label.code], abs=0.02), label.code
