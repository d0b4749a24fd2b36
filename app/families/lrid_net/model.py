"""A release of the paper's network, loaded: listener, reader and head joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from app.domain import AUDIO, TEXT, FloatArray, Metadata, Mode, Reading, Scores, Track
from app.families.contract import AudioBranch, InputBranch, InputField
from app.families.lrid_net.config import ListenConfig, LridNetManifest
from app.families.lrid_net.head import Head
from app.families.lrid_net.listen import Listener, LogMel
from app.families.lrid_net.network import LridNet
from app.families.lrid_net.read import LangdetectReader
from app.families.parts.probabilities import softmax
from app.families.parts.weights import load_weights
from app.families.tasks import LanguageTask

MOST_WINDOWS = 8  # of 30 s: 4 min, spread over a longer track


class NamesBranch:
    """Artist, album and title; implements `contract.InputBranch`."""

    field: InputField | None = None

    def __init__(self, reader: Callable[[Metadata], Reading]) -> None:
        self._reader = reader

    def read(self, track: Track) -> Reading | None:
        return self._reader(track.metadata) if track.metadata.fields else None


class LridNetModel:
    """A release of the family `lrid_net`; implements `contract.Model`."""

    def __init__(self, manifest: LridNetManifest, weights: dict[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        self.manifest = manifest
        self.reader = LangdetectReader(manifest.read.languages, seed=manifest.read.seed)
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
            network = build_network(manifest)
        load_weights(network, weights)
        network.eval()
        self.network = network
        self.audio: AudioBranch | None = None
        if manifest.training.get("listens", True):
            listener = Listener(LogMel(manifest.listen), network.f)
            self.audio = AudioBranch(manifest.listen.window, listener, most_windows=MOST_WINDOWS)
        self.inputs: Mapping[str, InputBranch] = {TEXT: NamesBranch(self.reader)}
        self.task = LanguageTask(manifest.languages, manifest.thresholds.bounds)
        self._temperatures = manifest.temperature.by_mode
        self._head = Head(network, listen_to_zeros(network, manifest.listen))

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """Mean over the windows of softmax(logits / temperature); a missing modality is zeros."""
        logits = self._head(features.get(AUDIO), features.get(TEXT))  # (n, classes)
        rows = softmax(logits / np.float32(self._temperatures[mode or frozenset({TEXT})]))
        mean = rows[0] if len(rows) == 1 else rows.mean(axis=0)
        return Scores(mean, rows if AUDIO in features else rows[:0])


def listen_to_zeros(network: LridNet, listen: ListenConfig) -> FloatArray:
    """f(0), (2048,): the features of a missing audio, a zero spectrogram of one window. The same bits at every load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would add in an order that depends on their number
    try:
        with torch.inference_mode():
            features = network.f(torch.zeros(1, 1, listen.mel_bands, listen.window_frames))  # (1, 2048)
    finally:
        torch.set_num_threads(threads)
    return features[0].numpy()  # type: ignore[no-any-return]


def build_network(manifest: LridNetManifest) -> LridNet:
    """The network a manifest describes, without its weights and without dropout."""
    return LridNet(manifest.network, n_text=manifest.read.n_features, n_classes=len(manifest.labels))
