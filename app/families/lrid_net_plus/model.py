"""A release of the family `lrid_net_plus`, loaded: its own reader; listener and head as `lrid_net` has them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from app.domain import FloatArray, Metadata, Probabilities, Reading
from app.errors import ReleaseError
from app.families.contract import mode_of
from app.families.lrid_net.config import ListenConfig
from app.families.lrid_net.head import Head
from app.families.lrid_net.listen import Listener, LogMel
from app.families.lrid_net.model import load_weights, softmax
from app.families.lrid_net.network import LridNet
from app.families.lrid_net_plus.config import LridNetPlusManifest
from app.families.lrid_net_plus.packed import unpacked
from app.families.lrid_net_plus.read import PlusReader

TABLE = "reader.table"  # its name among the weights


class LridNetPlusModel:
    """Implements `families.contract.Model`."""

    def __init__(self, manifest: LridNetPlusManifest, weights: dict[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        self.manifest = manifest
        weights = unpacked(weights)
        self.reader = PlusReader(manifest.read, _table(weights))
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
            network = LridNet(manifest.network, n_text=manifest.read.n_features, n_classes=len(manifest.labels))
        load_weights(network, {name: tensor for name, tensor in weights.items() if name != TABLE})
        network.eval()
        self.network = network
        self.listener = Listener(LogMel(manifest.listen), network.f, manifest.int8)
        self._head = Head(network, listen_to_zeros(network, manifest.listen))

    @property
    def sample_rate_hz(self) -> int:
        return self.manifest.listen.sample_rate_hz

    @property
    def window_samples(self) -> int:
        return self.manifest.listen.window_samples

    @property
    def n_audio_features(self) -> int:
        return self.manifest.network.n_audio_features

    def read(self, metadata: Metadata) -> Reading:
        """Metadata → x_lang (n_features,)."""
        return self.reader(metadata)

    def identify(self, features: FloatArray | None, reading: Reading | None) -> Probabilities:
        """Mean over the windows of softmax(logits / temperature); `None` is a missing modality."""
        logits = self._head(features, None if reading is None else reading.vector)  # (n, classes)
        temperature = getattr(self.manifest.temperature, mode_of(features is not None, reading))
        windows = softmax(logits / np.float32(temperature))
        return Probabilities(windows=windows, mean=windows[0] if len(windows) == 1 else windows.mean(axis=0))


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


def _table(weights: dict[str, Tensor]) -> FloatArray:
    if TABLE not in weights:
        raise ReleaseError(f"weights.safetensors: tensor '{TABLE}' is missing")
    table = weights[TABLE].float()
    if not torch.isfinite(table).all():
        raise ReleaseError(f"weights.safetensors: tensor '{TABLE}' holds NaN or infinite values")
    return table.numpy()
