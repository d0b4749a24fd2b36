"""Puts a finished release into its store: whole and verified, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from app.errors import ReleaseError
from app.families.contract import Manifest
from app.families.golden import Golden, load_golden, replay
from app.families.store import CARD, GOLDEN, MANIFEST, WEIGHTS, load_model
from app.lab.features import FeatureExtractor

MAX_WEIGHTS_MB = 95.0  # 10^6 bytes: releases are committed


@dataclass(frozen=True, slots=True)
class Verified:
    """Says how well a release reproduces its golden answers."""

    reference: str
    worst_difference: float  # largest |Δp| against golden.json


def free_place(store: Path, family: str, release: str) -> Path:
    """Names the folder of a release to be. Raises ReleaseError if it is taken."""
    place = store / family / release
    if place.exists():
        raise ReleaseError(f"{place} exists; releases never change: choose another name")
    return place


def weights_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Returns the content of weights.safetensors. Raises ReleaseError if it is too large."""
    data = safetensors_bytes(dict(tensors))
    if len(data) > MAX_WEIGHTS_MB * 1e6:
        raise ReleaseError(f"weights take {len(data) / 1e6:.1f} MB, a release may have {MAX_WEIGHTS_MB:g}")
    return data


def publish(place: Path, manifest: Manifest, data: bytes, golden: Golden, card: str) -> Path:
    """Builds the folder elsewhere in the store, verifies it, and renames it to `place`. Raises ReleaseError, OSError."""
    store = place.parent.parent
    store.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".making-", dir=store))
    try:
        folder = staging / manifest.family / manifest.release
        folder.mkdir(parents=True)
        (folder / WEIGHTS).write_bytes(data)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / GOLDEN).write_text(golden.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / CARD).write_text(card, encoding="utf-8")
        verify(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)  # fails if somebody made one meanwhile
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def verify(folder: Path) -> Verified:
    """Checks hash, schema, shapes, finite weights, and golden.json in fp32. Raises ReleaseError naming what is wrong."""
    model = load_model(folder)
    golden = load_golden(folder / GOLDEN)
    listen = FeatureExtractor(model.audio).windows if model.audio else None
    worst = replay(model, golden, listen, "fp32")
    if not (folder / CARD).is_file():
        raise ReleaseError(f"{CARD} is missing: a release says what it knows and what it does not")
    return Verified(f"{model.manifest.family}/{model.manifest.release}", worst)
