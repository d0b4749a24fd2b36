"""A release of `multimodal`, loaded."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from app.domain import AUDIO, FloatArray, Mode, Reading, Scores, Track
from app.families.contract import AudioBranch, InputBranch, InputField, VectorField
from app.families.multimodal.listen import SegmentListener, taken_apart
from app.families.multimodal.manifest import MultimodalManifest
from app.families.multimodal.network import MultimodalHead, MultimodalNetwork
from app.families.parts.weights import load_weights
from app.families.parts.whisper_weights import PREFIX as EARS
from app.families.parts.whisper_weights import ears_from_stored
from app.families.tasks import Bounds, LanguageTask

CONSUMPTION = "consumption"


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
        """Raises ReleaseError if weights and manifest do not fit each other."""
        self.manifest = manifest
        network = MultimodalNetwork(manifest.network, manifest.sizes, len(manifest.labels), manifest.timbral)
        load_weights(network, {name: tensor for name, tensor in weights.items() if not name.startswith(EARS)})
        self.head = MultimodalHead(network)
        listener = SegmentListener(ears_from_stored(manifest.listen, weights), network.timbral, manifest.segments)
        self.audio = AudioBranch(manifest.window, listener, most_windows=manifest.most_windows)
        self.inputs: Mapping[str, InputBranch] = (
            {CONSUMPTION: ConsumptionBranch(manifest.consumption)} if manifest.consumption else {}
        )
        least = {frozenset(mode.split("+")): by_class for mode, by_class in manifest.thresholds.items()}
        self.task = LanguageTask(manifest.languages, Bounds(least_by_language=least))

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """The segments' answers, added up by their seconds; without a segment, one answer of what else there is."""
        parts, heard = {}, features.get(AUDIO)
        if CONSUMPTION in features and (CONSUMPTION in mode or not mode):
            parts[CONSUMPTION] = features[CONSUMPTION]
        if heard is None:
            return Scores(self.head(parts)[0], np.zeros((0, len(self.manifest.labels)), np.float32))
        windows = taken_apart(heard, self.manifest.listen.n_state, self.manifest.segments)
        parts["timbral"] = windows.timbral
        if not len(windows.seconds):
            song = self.head(parts)[0]
            return Scores(song, np.tile(song, (len(heard), 1)))
        by_segment = self.head(parts | {"vocals": windows.embeddings})  # (n_segments, n_classes)
        weights = (windows.owner == np.arange(len(heard))[:, None]) * windows.seconds  # (n, n_segments)
        seconds = weights.sum(axis=1, keepdims=True)
        song = (windows.seconds @ by_segment / windows.seconds.sum()).astype(np.float32)
        by_window = np.where(seconds > 0, weights @ by_segment / np.maximum(seconds, 1e-9), song)
        return Scores(song, by_window.astype(np.float32))
