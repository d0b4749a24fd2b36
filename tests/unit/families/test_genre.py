"""The family `genre`: shapes, the LSTM of serving beside torch's, missing modalities, words, bad weights."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from app.domain import AUDIO, LYRICS, Metadata, Track
from app.errors import ReleaseError
from app.families.contract import Target, TextField
from app.families.genre.manifest import GenreManifest, ReadConfig, SeeConfig, Sizes
from app.families.genre.model import GenreModel, lstm_layer
from app.families.genre.network import GenreNetwork, LyricsNet, SpectrogramNet
from app.families.genre.words import WordReader, vocabulary_of
from app.families.parts.log_mel import LogMel16kHz
from app.families.parts.weights import COUNTER

VOCABULARY = ["drum", "moon", "kiss"]
GENRES = ["march", "polka"]


def manifest_of(**changes: Any) -> GenreManifest:
    return GenreManifest.model_validate({
        "family": "genre", "release": "1", "created": "2026-01-01", "sha256": "0" * 64,
        "labels": [{"code": code, "name": code} for code in GENRES], "training": {}, "metrics": {}, "modalities": "both",
        "see": {"channels": [4, 8], "window_seconds": 1.0}, "read": {}, "vocabulary": VOCABULARY, "fused_units": 8,
    } | changes)  # fmt: skip


def network_of(manifest: GenreManifest) -> GenreNetwork:
    torch.manual_seed(0)
    return GenreNetwork(manifest, len(manifest.vocabulary), len(manifest.labels))


def model_of(manifest: GenreManifest, network: GenreNetwork) -> GenreModel:
    return GenreModel(manifest, {name: t for name, t in network.state_dict().items() if COUNTER not in name})


def lyrics(text: object) -> Track:
    return Track(None, Metadata(), {LYRICS: text})


def test_shapes_and_parameters() -> None:
    see, read = SeeConfig(), ReadConfig()
    log_mel = LogMel16kHz(see.mel_bands)(torch.randn(2, see.window_samples))
    assert log_mel.shape == (2, 64, 300)
    assert SpectrogramNet(see)(log_mel).shape == (2, 64)
    words = LyricsNet(read, 100)
    assert words(torch.tensor([[1, 2, 0], [0, 0, 0]])).shape == (2, 32)
    network = GenreNetwork(Sizes(), 100, 6)
    assert network(log_mel, torch.ones(2, 5, dtype=torch.int64)).shape == (2, 6)
    assert network.h.dense.in_features == 64 + 32  # concatenated before the dense layer
    blocks = sum(9 * n * m + 2 * m for n, m in ((1, 16), (16, 32), (32, 64), (64, 64)))
    lstm = 2 * 4 * 32 * (32 + 32 + 2)
    expected = blocks + 64 * 65 + 101 * 32 + lstm + 64 * 97 + 6 * 65
    assert sum(p.numel() for p in network.parameters()) == expected


def test_every_parameter_gets_a_gradient() -> None:
    network = network_of(manifest_of())
    network(torch.randn(4, 64, 100), torch.randint(1, 4, (4, 7))).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_a_batch_without_any_word() -> None:
    network = network_of(manifest_of()).eval()
    log_mel, none = torch.randn(2, 64, 100), torch.zeros(2, 0, dtype=torch.int64)
    torch.testing.assert_close(network(log_mel, none), network(log_mel, torch.zeros(2, 3, dtype=torch.int64)))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_lstm_of_serving_is_torchs(layers: int) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 7, layers, batch_first=True)
    steps = torch.randn(1, 11, 5)
    states = steps[0].numpy()
    for layer in range(layers):
        weight_in, weight_hidden, bias_in, bias_hidden = (
            getattr(lstm, f"{name}_l{layer}").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        weights = np.ascontiguousarray(weight_in.T), np.ascontiguousarray(weight_hidden.T)
        states = lstm_layer(states, *weights, bias_in + bias_hidden)
    np.testing.assert_allclose(states, lstm(steps)[0][0].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("mode", [{AUDIO}, {LYRICS}, {AUDIO, LYRICS}], ids=lambda mode: "+".join(sorted(mode)))
def test_serving_says_what_the_network_says(mode: set[str]) -> None:
    """Missing audio is a spectrogram of zeros in training, missing lyrics no word."""
    manifest = manifest_of()
    network = network_of(manifest).eval()
    model = model_of(manifest, network)
    assert model.audio is not None
    samples = torch.randn(2, manifest.see.window_samples) * 0.1
    log_mel = LogMel16kHz(64)(samples) * (AUDIO in mode)
    words = torch.tensor([[2, 3, 1]] * 2) * (LYRICS in mode)
    expected = torch.softmax(network(log_mel, words), dim=1).mean(dim=0)
    features = {}
    if AUDIO in mode:
        features[AUDIO] = model.audio.listener.prepare(Target("cpu", "fp32"))(samples).detach().numpy()
    if LYRICS in mode:
        reading = model.inputs[LYRICS].read(lyrics("Moon, an unknown KISS\n[Chorus]\ndrum"))
        assert reading is not None
        features[LYRICS] = reading.vector
    scores = model.combine(features, frozenset(mode))
    np.testing.assert_allclose(scores.probabilities, expected.detach().numpy(), atol=1e-5)
    assert len(scores.windows) == (2 if AUDIO in mode else 0)


@pytest.mark.parametrize(("kind", "listens", "reads"), [("audio", True, False), ("lyrics", False, True)])
def test_a_release_of_one_modality_asks_for_no_other(kind: str, listens: bool, reads: bool) -> None:
    manifest = manifest_of(modalities=kind)
    model = model_of(manifest, network_of(manifest))
    assert (model.audio is not None, set(model.inputs)) == (listens, {LYRICS} if reads else set())
    assert model.combine({}, frozenset()).probabilities.shape == (2,)


def test_words_that_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    manifest = manifest_of()
    branch = model_of(manifest, network_of(manifest)).inputs[LYRICS]
    assert branch.field == TextField(16_000)
    assert branch.read(lyrics("  ")) is None
    unknown = branch.read(lyrics("nothing known here"))
    assert unknown is not None
    assert (unknown.informative, unknown.vector.any()) == (False, np.False_)


def test_reading_is_bounded() -> None:
    manifest = manifest_of(vocabulary=[f"w{i}" for i in range(3000)])
    branch = model_of(manifest, network_of(manifest)).inputs[LYRICS]
    text = "\n".join(" ".join(f"w{(7 * i + j) % 3000}" for j in range(8)) for i in range(400))[:16_000]
    branch.read(lyrics(text))  # compiles
    seconds = []
    for _ in range(20):
        started = time.thread_time()
        branch.read(lyrics(text))
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 0.01  # .5 ms where nothing else runs


def test_principal_words() -> None:
    texts = ["the moon the drum", "the moon [Chorus]", "the sea", "a moon"]
    assert vocabulary_of(texts, ReadConfig(), 10, 2, 0.75) == ["moon", "the"]
    assert vocabulary_of(texts, ReadConfig(), 10, 1, 0.5) == ["a", "drum", "sea"]
    assert vocabulary_of(texts, ReadConfig(), 1, 2, 1.0) == ["moon"]
    reader = WordReader(ReadConfig(most_words=3), ["moon", "drum"])
    np.testing.assert_array_equal(reader("Drum! moon\n\nDRUM, no moon moon"), [2, 1, 2])


def test_broken_weights_and_settings_are_named() -> None:
    manifest = manifest_of()
    weights = {name: t for name, t in network_of(manifest).state_dict().items() if COUNTER not in name}
    with pytest.raises(ReleaseError, match=r"g\.embedding\.weight.*should be .*4, 32"):
        GenreModel(manifest, weights | {"g.embedding.weight": torch.zeros(9, 32)})
    with pytest.raises(ReleaseError, match="NaN"):
        GenreModel(manifest, weights | {"h.output.bias": torch.full((2,), torch.nan)})
    with pytest.raises(ValueError, match="channels: 8 blocks need 256"):
        SeeConfig(channels=(4,) * 8)
