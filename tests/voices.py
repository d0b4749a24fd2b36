"""Tiny releases of `lrid_voice` with random weights, and one of them that reads lyrics."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from app.families.golden import Golden
from app.families.lrid_voice.identify import ROWS, SUNG
from app.families.lrid_voice.manifest import VoiceManifest
from app.families.lrid_voice.model import READER
from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.reader import shapes
from app.families.parts.profiles import langdetect_languages
from app.families.parts.whisper_weights import stored_ears
from app.families.store import CARD, GOLDEN, MANIFEST, WEIGHTS, load_model, read_manifest
from app.lab.training.release import make_golden
from app.lab.training.voice_lyrics import lyrics_config, with_lyrics
from tests.ears import SMALL, small_ears

CODES = {"en": ("eng", "English"), "fr": ("fra", "French"), "others": (None, "Other languages")}


def write_voice(store: Path) -> Path:
    """A release with random weights."""
    mix = dict(zip(CODES, (0.5, 0.3, 0.2), strict=True))
    read = NgramConfig(
        class_mix=mix, languages=list(langdetect_languages()), buckets_log2=8, embedding_size=4, networks=2, hidden_units=[8]
    )
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = stored_ears(small_ears())
    tensors |= {READER + name: torch.randn(shape, generator=generator) for name, shape in shapes(read).items()}
    tensors |= {ROWS: torch.randn(4, SMALL.n_state, generator=generator), SUNG: torch.zeros(SMALL.n_state)}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    tokens = [{"code": code, "label": code if code in CODES else "others", "bias": 0.0} for code in ("en", "fr", "de", "cy")]
    sung = {"window_bias": 1.0, "song_scale": 1.0, "confidence_scale": 0.0, "song_bias": 0.0}
    identify: dict[str, Any] = {
        "tokens": tokens, "window_scale": 1.0, "entropy_weight": 1.0, "song_scale": 1.0, "stop_bound": 0.9, "sung": sung,
        "several": {"sure": 0.9, "least_share": 0.2, "least_windows": 2},
        "experts": {"text": {"exponent": 1.0, "doubt": 0.1, "class_mix": mix}},
        "thresholds": {"text": 0.4},
    }  # fmt: skip
    manifest = VoiceManifest.model_validate({
        "family": "lrid_voice", "release": "1", "created": "2024-01-01", "sha256": hashlib.sha256(data).hexdigest(),
        "labels": [{"code": code, "iso639_3": iso, "name": name} for code, (iso, name) in CODES.items()],
        "training": {"data": "none: random weights"}, "metrics": {}, "listen": SMALL.model_dump(),
        "windows": {"positions": [0.5, 0.2, 0.8], "first_windows": 1, "most_windows": 3}, "read": read.model_dump(),
        "identify": identify,
    })  # fmt: skip
    folder = store / "lrid_voice/1"
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(data)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder


def write_reading_voice(store: Path) -> Path:
    """The same, servable, with lyrics."""
    folder = write_voice(store)
    manifest = read_manifest(folder)
    assert isinstance(manifest, VoiceManifest)
    changes = {"lyrics": lyrics_config(manifest.read), "identify": with_lyrics(manifest.identify, list(CODES))}
    (folder / MANIFEST).write_text(manifest.model_copy(update=changes).model_dump_json())
    golden: Golden = make_golden(load_model(folder))
    (folder / GOLDEN).write_text(golden.model_dump_json())
    (folder / CARD).write_text("Random weights, for tests.\n")
    return folder
