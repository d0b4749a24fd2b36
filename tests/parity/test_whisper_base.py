"""The ears against stored figures of OpenAI's Whisper base: the front end always, the network where there are weights."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.families.parts.configs import WhisperConfig
from app.families.parts.log_mel import LogMel16kHz
from app.families.parts.whisper import Ears
from app.families.parts.whisper_checkpoint import LANGUAGES, ears_from_checkpoint
from app.families.parts.whisper_weights import ears_from_stored, stored_ears

FIGURES: dict[str, Any] = json.loads(Path(__file__).with_name("whisper_base.json").read_text())["figures"]
RELEASE = Path("model_store/lrid_voice/4/weights.safetensors")
CHECKPOINT = Path(os.environ.get("LRID_DATA", "../shared/data")) / "whisper-base" / "whisper-base-language.safetensors"


def samples() -> torch.Tensor:
    """(1, 160000): the formula in `whisper_base.json`."""
    t = np.arange(160_000) / 16_000
    sweep = 0.3 * np.sin(2 * np.pi * (200 * t + 20 * t**2))
    pulses = 0.1 * np.sin(2 * np.pi * 1000 * t) * (np.sin(2 * np.pi * 3 * t) > 0)
    return torch.from_numpy((sweep + pulses).astype(np.float32))[None]


def heard(ears: Ears) -> np.ndarray:
    with torch.inference_mode():
        return ears(samples())[0].numpy()


def test_the_front_end() -> None:
    mel = LogMel16kHz(80)(samples())[0]
    assert list(mel.shape) == FIGURES["mel_shape"]
    assert float(mel.mean()) == pytest.approx(FIGURES["mel_mean"], abs=1e-6)
    assert float(mel.std()) == pytest.approx(FIGURES["mel_std"], abs=1e-6)
    assert mel[:5, 0].tolist() == pytest.approx(FIGURES["mel_first_frame_first_5"], abs=1e-5)


@pytest.mark.skipif(not CHECKPOINT.is_file(), reason="needs Whisper base; LRID_DATA says where")
def test_the_network_with_the_checkpoints_weights() -> None:
    loaded = ears_from_checkpoint(CHECKPOINT)
    features = heard(loaded.ears)
    assert loaded.ears.config == WhisperConfig()
    assert features[:5] == pytest.approx(FIGURES["hidden_first_5"], abs=2e-4)
    assert np.linalg.norm(features[:512]) == pytest.approx(FIGURES["hidden_norm"], abs=1e-3)
    assert features[512] == pytest.approx(FIGURES["no_speech_logit"], abs=2e-4)
    logits = loaded.rows @ torch.from_numpy(features[:512])
    assert logits[:5].tolist() == pytest.approx(FIGURES["logits_first_5"], abs=2e-4)
    best = logits.softmax(0).topk(3)
    assert [LANGUAGES[i] for i in best.indices.tolist()] == [language for language, _ in FIGURES["top3"]]
    assert best.values.tolist() == pytest.approx([probability for _, probability in FIGURES["top3"]], abs=2e-5)
    stored = ears_from_stored(loaded.ears.config, stored_ears(loaded.ears))
    again = torch.from_numpy(heard(stored)[:512])
    assert float((again - torch.from_numpy(features[:512])).norm() / again.norm()) < 0.03, "as a release stores it"


@pytest.mark.skipif(not RELEASE.is_file(), reason="needs the release lrid_voice/4")
def test_the_network_with_the_releases_weights() -> None:
    """The release rounds the encoder's rows to 8 bits."""
    features = heard(ears_from_stored(WhisperConfig(), load_file(RELEASE)))
    assert features[:5] == pytest.approx(FIGURES["hidden_first_5"], abs=0.3)
    assert np.linalg.norm(features[:512]) == pytest.approx(FIGURES["hidden_norm"], rel=0.01)
    assert features[512] == pytest.approx(FIGURES["no_speech_logit"], abs=0.3)
