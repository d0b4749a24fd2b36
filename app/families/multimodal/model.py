"""A release of `multimodal`, loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from torch import Tensor

from app.domain import AUDIO, FloatArray, Mode, Reading, Scores, Track
from app.errors import ReleaseError
from app.families.contract import AudioBranch, InputBranch, InputField, VectorField
from app.families.multimodal.head import MultimodalHead
from app.families.multimodal.listen import SegmentListener, WindowFeatures, taken_apart
from app.families.multimodal.manifest import MultimodalManifest
from app.families.multimodal.timbral import TimbralHistogram
from app.families.parts.whisper_weights import PREFIX as EARS
from app.families.parts.whisper_weights import ears_from_stored
from app.families.tasks import Bounds, LanguageTask

CONSUMPTION, HEAD, TIMBRAL = "consumption", "identify.", "timbral."  # a modality, and prefixes of tensors


class ConsumptionBranch:
    """What is listened to in the same sessions, as a vector; implements `contract.InputBranch`."""

    def __init__(self, length: int) -> None:
        self.field: InputField | None = VectorField(length)

    def read(self, track: Track) -> Reading | None:
        """A vector of zeros says nothing."""
        given = track.further.get(CONSUMPTION)
        if given is None:
            return None
        vector = np.asarray(given, np.float32)
        return Reading(vector, informative=bool(vector.any()))


class MultimodalModel:
    """Implements `contract.Model`."""

    def __init__(self, manifest: MultimodalManifest, weights: Mapping[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other; of the listener, when it is asked for."""
        self.manifest = manifest
        self._heard = {name: tensor for name, tensor in weights.items() if name.startswith((EARS, TIMBRAL))}
        self.inputs: Mapping[str, InputBranch] = (
            {CONSUMPTION: ConsumptionBranch(manifest.consumption)} if manifest.consumption else {}
        )
        head = {name.removeprefix(HEAD): tensor.float().numpy() for name, tensor in weights.items() if name.startswith(HEAD)}
        self.head = MultimodalHead(manifest.network, manifest.sizes, len(manifest.labels), head)
        least = {frozenset(mode.split("+")): by_class for mode, by_class in manifest.thresholds.items()}
        self.task = LanguageTask(manifest.languages, Bounds({}, {}, least_by_mode=least))

    @cached_property
    def audio(self) -> AudioBranch:
        """Built when first asked for. Raises ReleaseError."""
        manifest, codebook = self.manifest, self.manifest.timbral
        ears = ears_from_stored(manifest.listen, self._heard)
        timbral = None if codebook is None else _filled(TimbralHistogram(codebook), self._heard)
        listener = SegmentListener(ears, timbral, manifest.segments, codebook.n_codewords if codebook else 0)
        self._heard = {}  # their memory
        return AudioBranch(manifest.window, listener, None, manifest.most_windows)

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """The segments' answers, added up by their seconds; without a segment, one answer of what else there is."""
        consumption = features.get(CONSUMPTION) if CONSUMPTION in mode or not mode else None
        if (heard := features.get(AUDIO)) is None:
            return Scores(self.head({CONSUMPTION: consumption})[0], np.zeros((0, len(self.manifest.labels)), np.float32))
        windows = taken_apart(heard, self.manifest.listen.n_state, self.manifest.segments)
        parts = {"timbral": windows.timbral, CONSUMPTION: consumption}
        if not len(windows.seconds):
            song = self.head(parts)[0]
            return Scores(song, np.tile(song, (len(heard), 1)))
        by_segment = self.head(parts | {"vocals": windows.embeddings})  # (n_segments, n_classes)
        song = (windows.seconds @ by_segment / windows.seconds.sum()).astype(np.float32)
        return Scores(song, _by_window(by_segment, windows, song, len(heard)))


def _by_window(by_segment: FloatArray, windows: WindowFeatures, song: FloatArray, n: int) -> FloatArray:
    """(n, n_classes): of each window's segments by their seconds; the song's answer where a window has none."""
    weights = (windows.owner == np.arange(n)[:, None]) * windows.seconds  # (n, n_segments)
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights @ by_segment / np.maximum(total, 1e-9), song).astype(np.float32)


def _filled(timbral: TimbralHistogram, weights: Mapping[str, Tensor]) -> TimbralHistogram:
    """With a release's tensors, in fp32. Raises ReleaseError naming the one that does not fit."""
    for name, buffer in timbral.state_dict().items():
        tensor = weights.get(TIMBRAL + name)
        if tensor is None or tensor.shape != buffer.shape or not tensor.isfinite().all():
            raise ReleaseError(f"weights.safetensors: '{TIMBRAL}{name}' should be {tuple(buffer.shape)} and finite")
        buffer.copy_(tensor)
    if not (timbral.variances > 0).all() or not (timbral.weights > 0).all():
        raise ReleaseError(f"weights.safetensors: '{TIMBRAL}variances' and '{TIMBRAL}weights' should be over 0")
    return timbral
