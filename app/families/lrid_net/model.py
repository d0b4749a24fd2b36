"""A release, loaded: reader, listener and head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from app.domain import FloatArray, Metadata, Probabilities, Reading
from app.errors import ReleaseError
from app.families.compiled import compiled
from app.families.contract import mode_of
from app.families.lrid_net.config import ListenConfig, LridNetManifest, NetworkManifest
from app.families.lrid_net.head import Head
from app.families.lrid_net.listen import Listener, LogMel
from app.families.lrid_net.network import LridNet
from app.families.lrid_net.read import LangdetectReader

M = TypeVar("M", bound=NetworkManifest)


class NetworkModel(Generic[M]):
    """Implements `families.contract.Model`: what all that have an LRID-Net do, however they read."""

    def __init__(self, manifest: M, reader: Callable[[Metadata], Reading], weights: dict[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        self.manifest = manifest
        self.reader = reader
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
            network = build_network(manifest)
        load_weights(network, weights)
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
        """Metadata → x_lang (n_text_features,)."""
        return self.reader(metadata)

    def identify(self, features: FloatArray | None, reading: Reading | None) -> Probabilities:
        """Mean over the windows of softmax(logits / temperature); `None` is a missing modality."""
        logits = self._head(features, None if reading is None else reading.vector)  # (n, classes)
        temperature = getattr(self.manifest.temperature, mode_of(features is not None, reading))
        windows = softmax(logits / np.float32(temperature))
        return Probabilities(windows=windows, mean=windows[0] if len(windows) == 1 else windows.mean(axis=0))


class LridNetModel(NetworkModel[LridNetManifest]):
    """A release of the family `lrid_net`."""

    def __init__(self, manifest: LridNetManifest, weights: dict[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        super().__init__(manifest, LangdetectReader(manifest.read.languages, seed=manifest.read.seed), weights)


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


@compiled
def softmax(logits: FloatArray) -> FloatArray:
    """(n, classes) → the same, rows sum to 1."""
    probabilities = np.empty_like(logits)
    for row in range(len(logits)):
        powers = np.exp(logits[row] - logits[row].max())
        probabilities[row] = powers / powers.sum()
    return probabilities


def build_network(manifest: NetworkManifest) -> LridNet:
    """The network a manifest describes, without its weights and without dropout."""
    return LridNet(manifest.network, n_text=manifest.n_text_features, n_classes=len(manifest.labels))


def load_weights(network: LridNet, weights: dict[str, Tensor]) -> None:
    """Give the network the stored tensors (fp16 or fp32), as fp32. Raises ReleaseError on wrong names, shapes or values."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ReleaseError(f"weights.safetensors: tensor '{name}' holds NaN or infinite values")
    expected = {name: tensor.shape for name, tensor in network.state_dict().items() if "num_batches" not in name}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise ReleaseError(
            f"weights.safetensors: {len(wrong)} tensors do not fit the manifest; '{name}' should be "
            f"{expected.get(name)} and is {found.get(name)}"
        )
    state = {name: tensor.float() for name, tensor in weights.items()}
    counters = [name for name in network.state_dict() if "num_batches" in name]  # of no use after training, not stored
    network.load_state_dict(state | {name: torch.tensor(0) for name in counters}, assign=True)
