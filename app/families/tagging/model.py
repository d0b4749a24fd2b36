"""A release of `tagging`, loaded: one of three networks, and a threshold for each tag."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from app.domain import AUDIO, FloatArray, Language, Mode, Scores
from app.errors import ReleaseError
from app.families.contract import AudioBranch, InputBranch
from app.families.parts.listener import NetworkListener
from app.families.parts.probabilities import sigmoid
from app.families.parts.weights import load_weights
from app.families.tagging.manifest import LstmConfig, TaggingManifest
from app.families.tagging.networks import build_network
from app.families.tasks import ClassTask, Json


class TagsTask(ClassTask):
    """Every tag by itself: it applies where its probability reaches its own threshold. Candidates keep theirs."""

    def __init__(self, tags: Sequence[Language], thresholds: Sequence[float]) -> None:
        """`thresholds` in the order of the tags."""
        super().__init__(tags, "tags", "tags")
        self._thresholds = tuple(thresholds)

    def headline(self, answer: Json) -> tuple[str, float]:
        """The most probable tag."""
        return answer["tags"][0]["code"], answer["tags"][0]["probability"]

    def _members(self, ranked: list[Json]) -> Json:
        return {"tags": ranked}

    def _total(self, candidates: list[float]) -> float:
        return 1.0

    def _described(self, row: int, probability: float) -> Json:
        return super()._described(row, probability) | {"applies": probability >= self._thresholds[row]}


class TaggingModel:
    """Implements `contract.Model`. It listens, and reads nothing."""

    inputs: Mapping[str, InputBranch] = {}

    def __init__(self, manifest: TaggingManifest, weights: Mapping[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        self.manifest = manifest
        try:
            network = build_network(manifest.network, manifest.audio, len(manifest.labels))
        except ValueError as error:
            raise ReleaseError(f"manifest.json: audio.window_samples: {error}") from error
        load_weights(network, dict(weights))
        self._n_segments = manifest.network.segments if isinstance(manifest.network, LstmConfig) else 1  # of a window
        n_features = self._n_segments * len(manifest.labels)
        listener = NetworkListener(nn.Identity(), nn.Sequential(network, nn.Flatten()), n_features)
        audio = manifest.audio
        self.audio: AudioBranch | None = AudioBranch(audio.window, listener, most_windows=audio.most_windows)
        self.task = TagsTask(manifest.languages, manifest.thresholds)

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """The mean of the probabilities, over the segments of a window and over the windows; without audio of no logits."""
        n_tags = len(self.manifest.labels)
        logits = features.get(AUDIO, np.zeros((0, self._n_segments * n_tags), np.float32))
        windows = sigmoid(logits).reshape(len(logits), self._n_segments, n_tags).mean(axis=1)  # (n, n_tags)
        mean = windows.mean(axis=0) if len(windows) else np.full(n_tags, 0.5, np.float32)
        return Scores(mean.astype(np.float32), windows.astype(np.float32))
