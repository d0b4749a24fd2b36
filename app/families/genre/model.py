"""A release that tells genres by audio and lyrics, loaded."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from app.domain import AUDIO, LYRICS, FloatArray, Mode, Reading, Scores, Track
from app.families.compiled import compiled
from app.families.contract import AudioBranch, InputBranch, InputField, TextField
from app.families.genre.manifest import GenreManifest
from app.families.genre.network import GenreNetwork, LyricsNet
from app.families.genre.words import WordReader
from app.families.parts.listener import NetworkListener
from app.families.parts.log_mel import LogMel16kHz
from app.families.parts.probabilities import softmax
from app.families.parts.weights import dense, load_weights
from app.families.tasks import ClassTask


class WordsBranch:
    """Lyrics → the last hidden state of the LSTM; implements `contract.InputBranch`.

    At most 64 words take .2 ms where numba compiles the loops.
    """

    def __init__(self, manifest: GenreManifest, network: LyricsNet) -> None:
        self.field: InputField | None = TextField(manifest.read.max_characters)
        self._words = WordReader(manifest.read, manifest.vocabulary)
        self._embedding = _array(network.embedding.weight)  # (n_words + 1, embedding_size)
        self._layers = [_layer(network.lstm, number) for number in range(manifest.read.layers)]

    def read(self, track: Track) -> Reading | None:
        text = track.further.get(LYRICS)
        if not isinstance(text, str) or not text or text.isspace():
            return None
        words = self._words(text)
        if not len(words):
            return Reading(np.zeros(len(self._layers[-1][1]), np.float32), informative=False)
        states = self._embedding[words]
        for weight_in, weight_hidden, bias in self._layers:
            states = lstm_layer(states, weight_in, weight_hidden, bias)
        return Reading(states[-1], informative=True)


class GenreModel:
    """Implements `contract.Model`: the mean over the windows of what the joined features say."""

    def __init__(self, manifest: GenreManifest, weights: dict[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        self.manifest = manifest
        with torch.device("meta"):
            network = GenreNetwork(manifest, len(manifest.vocabulary), len(manifest.labels))
        load_weights(network, weights)
        self.audio: AudioBranch | None = None
        if network.f is not None:
            see = manifest.see
            shape = (1, see.mel_bands, see.frames)
            listener = NetworkListener(LogMel16kHz(see.mel_bands), network.f, see.n_features, shape)
            self.audio = AudioBranch(see.window, listener, most_windows=see.served_windows)
        self.inputs: Mapping[str, InputBranch] = {} if network.g is None else {LYRICS: WordsBranch(manifest, network.g)}
        self.task = ClassTask(manifest.languages, "genre", "genres")
        widths = {AUDIO: manifest.see.n_features, LYRICS: manifest.read.hidden_units}
        self._widths = {name: width for name, width in widths.items() if name in manifest.used}
        self._fusion = [dense(network.h.dense), dense(network.h.output)]

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """What is missing is zeros."""
        n = len(features[AUDIO]) if AUDIO in features else 1
        given = [features.get(name, np.zeros(width, np.float32)) for name, width in self._widths.items()]
        x = np.concatenate([np.broadcast_to(vector, (n, vector.shape[-1])) for vector in given], axis=1)
        (weight, bias), (last_weight, last_bias) = self._fusion
        rows = softmax(np.maximum(x @ weight + bias, 0) @ last_weight + last_bias).astype(np.float32)
        return Scores(rows.mean(axis=0), rows if AUDIO in features else rows[:0])


def _array(tensor: Tensor) -> FloatArray:
    return np.ascontiguousarray(tensor.detach().numpy())


def _layer(lstm: nn.LSTM, number: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    weight_in, weight_hidden, *biases = (
        getattr(lstm, f"{name}_l{number}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return _array(weight_in.T), _array(weight_hidden.T), _array(sum(biases))


@compiled
def lstm_layer(inputs: FloatArray, weight_in: FloatArray, weight_hidden: FloatArray, bias: FloatArray) -> FloatArray:
    """(n_steps, n_in), (n_in, 4 n), (n, 4 n), (4 n,) → the hidden state after each step, (n_steps, n).

    An LSTM layer in loops: torch's own takes a millisecond for dozens of words. Weights are torch's (gates in the order
    input, forget, cell, output), transposed.
    """
    n = weight_hidden.shape[0]
    states = np.zeros((inputs.shape[0], n), np.float32)
    hidden, cell = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for step in range(inputs.shape[0]):
        gates = bias.copy()
        for i in range(inputs.shape[1]):
            gates += inputs[step, i] * weight_in[i]
        for i in range(n):
            gates += hidden[i] * weight_hidden[i]
        opened = np.float32(0.5) * (np.float32(1.0) + np.tanh(np.float32(0.5) * gates))  # the logistic function
        cell = opened[n : 2 * n] * cell + opened[:n] * np.tanh(gates[2 * n : 3 * n])
        hidden = opened[3 * n :] * np.tanh(cell)
        states[step] = hidden
    return states
