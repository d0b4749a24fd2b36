"""Loads ears and a reader, of a release or of a Whisper checkpoint and a reader's training; measures ranges for int8."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from app.domain import TEXT
from app.families.contract import Label
from app.families.lrid_voice.identify import ROWS
from app.families.lrid_voice.manifest import VoiceManifest
from app.families.lrid_voice.model import READER
from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.quantised import LAYERS, Ranges
from app.families.parts.whisper import Ears
from app.families.parts.whisper_checkpoint import ears_from_checkpoint
from app.families.parts.whisper_weights import ears_from_stored
from app.families.store import read_manifest, read_weights, release_folder
from app.lab.errors import TrainingError
from app.lab.training import checkpoint
from app.lab.training.recipes.reader import ReaderConfig, ReaderRecipe
from app.lab.training.voice_head.fit import Given

WIDEST = 60.0  # a range, in root mean squares of what it holds; Whisper base has up to 37, and from 123
Reader = tuple[NgramConfig, Mapping[str, Tensor]]  # of names, as `NgramReader` takes it and a release stores it
FIRST = "encoder.conv1"  # sees the spectrogram: a hundredth of the work, and its rounding would be in all that follows


@dataclass(frozen=True, slots=True)
class VoiceParts:
    """Holds everything but the head."""

    labels: Sequence[Label]
    ears: Ears
    reader: Reader
    given: Given
    origin: str  # for people


def identity_of(module: nn.Module) -> str:
    """Hashes a module's tensors: releases that share ears share features."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def parts_of_release(store: Path, reference: str) -> VoiceParts:
    """Loads a release. Raises ReleaseError if there is none, or TrainingError if it is of another family."""
    folder = release_folder(store, reference)
    manifest = read_manifest(folder)
    if not isinstance(manifest, VoiceManifest):
        raise TrainingError(f"start: {reference} is of family {manifest.family}, expected lrid_voice")
    weights = read_weights(folder, manifest)
    own = {name.removeprefix(READER): tensor for name, tensor in weights.items() if name.startswith(READER)}
    head = manifest.identify
    given = Given(
        weights[ROWS].float().numpy(),
        [token.code for token in head.tokens],
        manifest.read.class_mix,
        head.experts[TEXT].alone_exponent if TEXT in head.experts else 1.0,
        head.thresholds.get(TEXT, 0.5),
    )
    ears, origin = ears_from_stored(manifest.listen, weights), f"{manifest.family}/{manifest.release}"
    return VoiceParts(manifest.labels, ears, (manifest.read, own), given, origin)


def parts_of_training(whisper: Path, reader: Path, threshold: float) -> VoiceParts:
    """Loads a Whisper and best.pt of `--recipe reader`; `threshold`: names alone. Raises ReleaseError, CheckpointError."""
    first = ears_from_checkpoint(whisper)
    labels, names = reader_of(reader)
    given = Given(first.rows.numpy(), first.languages, names[0].class_mix, threshold=threshold)
    return VoiceParts(labels, first.ears, names, given, whisper.name)


def reader_of(path: Path) -> tuple[Sequence[Label], Reader]:
    """Loads best.pt of `--recipe reader`, with its classes. Raises CheckpointError."""
    stored = checkpoint.load(path, ReaderRecipe.name)
    recipe = ReaderRecipe(ReaderConfig.model_validate(json.loads(stored["config"])))
    checkpoint.load_weights(path, stored, recipe.build())
    return recipe.config.labels, recipe.part(stored)


@torch.inference_mode()
def measure_ranges(ears: Ears, windows: Iterable[Tensor]) -> Ranges:
    """Finds what the ears need to run in 8 bits. `windows`: (window_samples,) float32 of training recordings.

    The range of a layer's inputs is the mean, over the windows, of their least and largest values; values beyond it are
    clipped. A layer whose inputs have far outliers would round everything else to nothing: it is left out and runs in
    floats. In Whisper base these are the last layers' second products.
    """
    seen: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)

    def look(name: str, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        seen[name].append((low.item(), high.item(), x.square().mean().item()))

    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
        for name, layer in ears.whisper.named_modules()
        if name.startswith("encoder.") and name != FIRST and isinstance(layer, LAYERS)
    ]
    try:
        for window in windows:
            ears(window[None])
    finally:
        for hook in hooks:
            hook.remove()
    means = {name: tuple(map(fmean, zip(*inputs, strict=True))) for name, inputs in seen.items()}
    return {name: (low, high) for name, (low, high, square) in means.items() if high - low <= WIDEST * math.sqrt(square)}
