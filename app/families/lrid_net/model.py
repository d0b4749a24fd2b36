"""A release of the paper's network, loaded: listener, reader and head joined."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from app.domain import AUDIO, TEXT, FloatArray, Mode, Scores
from app.families.contract import AudioBranch, InputBranch
from app.families.lrid_net.config import MODES, ListenConfig, LridNetManifest
from app.families.lrid_net.network import LogMel, LridNet, fold_batch_norm
from app.families.lrid_net.read import LangdetectReader
from app.families.parts.listener import NetworkListener
from app.families.parts.probabilities import softmax
from app.families.parts.weights import dense, load_weights
from app.families.tasks import LanguageTask

MOST_WINDOWS = 8  # of 30 s: 4 min, spread over a longer track


def _fold(layer: nn.Module) -> tuple[FloatArray, FloatArray]:
    """Linear followed by BatchNorm (evaluation) as one linear layer."""
    return dense(fuse_linear_bn_eval(layer[0], layer[1]))  # type: ignore[index]


class Head:
    """g and h with BatchNorm folded in, in NumPy: s_audio and x_lang → logits, in microseconds and without the device."""

    def __init__(self, network: LridNet, silent_features: FloatArray) -> None:
        """`silent_features` is f(0), (2048,): what a missing audio becomes. It is a constant of the release."""
        self._read = [_fold(layer) for layer in network.g]  # (56 → 128)
        hidden, self._bias = _fold(network.h[0])
        self._out = dense(network.h[1])  # (256 → classes)
        self._audio, self._text = hidden[: len(silent_features)], hidden[len(silent_features) :]  # (2048, 256), (128, 256)
        self._no_audio = silent_features @ self._audio  # (256,)
        self._no_text = np.zeros(len(self._read[0][0]), np.float32)  # (56,)

    def __call__(self, features: FloatArray | None, x_lang: FloatArray | None) -> FloatArray:
        """(n, 2048) and/or (56,) → logits (n, classes); `None` is a missing modality; n is 1 without audio."""
        heard = self._no_audio[None] if features is None else features @ self._audio  # (n, 256)
        read = self._no_text if x_lang is None else x_lang
        for weight, bias in self._read:
            read = np.maximum(read @ weight + bias, np.float32(0.0))  # (128,)
        weight, bias = self._out
        logits: FloatArray = np.maximum(heard + (read @ self._text + self._bias), np.float32(0.0)) @ weight + bias
        return logits


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
        self.inputs: Mapping[str, InputBranch] = {TEXT: self.reader}
        self.task = LanguageTask(manifest.languages, manifest.thresholds.bounds)
        self._temperatures = {mode: getattr(manifest.temperature, name) for name, mode in MODES.items()}
        self._head = Head(network, listen_to_zeros(network, manifest.listen))
        self.audio = self._audio() if manifest.training.get("listens", True) else None

    def _audio(self) -> AudioBranch:
        """Folds BatchNorm into the convolutions of f."""
        listen, sizes = self.manifest.listen, self.manifest.network
        f = fold_batch_norm(self.network.f).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        front_end = nn.Sequential(LogMel(listen), nn.Unflatten(1, (1, listen.mel_bands)))  # (n, 1, 128, 2580)
        shape = (1, 1, listen.mel_bands, listen.window_frames)
        listener = NetworkListener(front_end, f, sizes.n_audio_features, shape, halves=True)
        return AudioBranch(listen.window, listener, most_windows=MOST_WINDOWS)

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
