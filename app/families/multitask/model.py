"""A release that knows who sings beside the language, loaded."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from app.domain import AUDIO, FloatArray, Language, Mode, Scores
from app.families.contract import AudioBranch, InputBranch
from app.families.multitask.manifest import MultitaskManifest
from app.families.multitask.network import LogMel, MultitaskNetwork
from app.families.parts.listener import NetworkListener
from app.families.parts.probabilities import softmax
from app.families.parts.weights import load_weights
from app.families.tasks import Bounds, ClassTask, Json, LanguageTask, Task, View

ARTISTS = "artists"


class SingerTask(LanguageTask):
    """The language, and who sings."""

    def __init__(self, languages: Sequence[Language], artists: Sequence[Language]) -> None:
        super().__init__(languages, Bounds())
        self._artists = ClassTask(artists, "artist", ARTISTS)

    def answer(self, scores: Scores, mode: Mode, view: View) -> Json:
        """As LanguageTask, and `artists`, best first."""
        artists = self._artists.ranked(scores.further[ARTISTS], View(view.top_k))
        return super().answer(scores, mode, view) | {ARTISTS: artists}


class MultitaskModel:
    """Implements `contract.Model`: the mean of the segments' probabilities."""

    def __init__(self, manifest: MultitaskManifest, weights: dict[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        self.manifest = manifest
        with torch.device("meta"):
            network = MultitaskNetwork(manifest.listen, manifest.blocks.channels, manifest.sizes)
        load_weights(network, weights)
        listen = manifest.listen
        shape = (1, 1, listen.segment_frames, listen.mel_bands)
        listener = NetworkListener(LogMel(listen), network, sum(manifest.sizes.values()), shape)
        self.audio: AudioBranch | None = AudioBranch(listen.window, listener, most_windows=listen.served_segments)
        self.inputs: Mapping[str, InputBranch] = {}
        self.task = _task(manifest)

    def posteriors(self, logits: FloatArray) -> dict[str, FloatArray]:
        """(n_segments, n_features) → probabilities by task, (n_segments, n_classes) each."""
        sizes = self.manifest.sizes
        parts = np.split(logits, np.cumsum(list(sizes.values()))[:-1], axis=1)
        return {name: softmax(part) for name, part in zip(sizes, parts, strict=True)}

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """The mean over the segments, of languages and of artists."""
        by_task = self.posteriors(features[AUDIO])
        rows = by_task[self.manifest.asks]
        further = {ARTISTS: by_task["artist"].mean(axis=0)} if self.manifest.artists else {}
        return Scores(rows.mean(axis=0), rows, further=further)


def _task(manifest: MultitaskManifest) -> Task:
    if manifest.asks == "artist":
        return ClassTask(manifest.languages, "artist", ARTISTS)
    if manifest.artists:
        return SingerTask(manifest.languages, [label.language for label in manifest.artists])
    return LanguageTask(manifest.languages, Bounds())
