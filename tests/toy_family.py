"""A family in one file, as app/families/README.md says: audio of 16 kHz, artist and title, and who listens.

Its weights are made by a formula. It is told apart from `lrid_net` by everything that the rest of the service must not
take for granted: rate, length, padding and order of windows, number of features, a third modality, listening until sure.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from app.audio.spec import WindowSpec
from app.domain import AUDIO, TEXT, FloatArray, Mode, Reading, Scores, Track
from app.errors import ReleaseError
from app.families.contract import (
    AudioBranch,
    Backend,
    InputBranch,
    InputField,
    Listen,
    Manifest,
    Model,
    Precision,
    Strict,
    Target,
    VectorField,
    mode_name,
)
from app.families.golden import Golden, GoldenCase, Tone, answer
from app.families.store import CARD, GOLDEN, MANIFEST, WEIGHTS, Family
from app.families.tasks import Bounds, LanguageTask

LISTENERS = "listeners"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class ToyAudio(Strict):
    sample_rate_hz: int = Field(gt=0)
    window_seconds: float = Field(gt=0)
    bands: int = Field(gt=0)
    most_windows: int = Field(gt=0)


class ToyManifest(Manifest):
    """`manifest.json` of the family."""

    audio: ToyAudio
    regions: int = Field(gt=0)  # the share of listeners in each
    temperature: dict[str, float]  # by the name of the mode
    sure: float  # of the best language: no more windows then


class BandListener:
    """Energy in bands of the spectrum; implements `contract.Listener`."""

    def __init__(self, bands: int) -> None:
        self.n_features = bands

    def precisions(self, backend: Backend) -> tuple[Precision, ...]:
        return ("fp32",)

    def prepare(self, target: Target) -> Listen:
        if target.precision != "fp32":
            raise ReleaseError(f"toy: listens in fp32, not in {target.precision}")
        return self._listen

    def forget(self) -> None:
        """There are no weights."""

    def _listen(self, samples: Tensor) -> Tensor:
        """(n, window_samples) → (n, bands), in decibels over a floor."""
        spectrum = torch.fft.rfft(samples).abs()[:, 1:]  # (n, window_samples / 2)
        bands = torch.nn.functional.adaptive_avg_pool1d(spectrum, self.n_features)
        return torch.log10(bands + 1e-3)


class LettersBranch:
    """How often each letter comes in artist, album and title; implements `contract.InputBranch`."""

    field: InputField | None = None

    def read(self, track: Track) -> Reading | None:
        if not track.metadata.fields:
            return None
        text = track.metadata.joined.lower()
        counts = np.array([text.count(letter) for letter in LETTERS], np.float32)
        return Reading(counts / max(1.0, float(counts.sum())), informative=bool(counts.any()))


class ListenersBranch:
    """Where the track is listened to; implements `contract.InputBranch`."""

    def __init__(self, regions: int) -> None:
        self.field: InputField | None = VectorField(regions)

    def read(self, track: Track) -> Reading | None:
        given = track.further.get(LISTENERS)
        if given is None:
            return None
        vector = np.asarray(given, np.float32)
        return Reading(vector, informative=bool(vector.any()))


class ToyModel:
    """Implements `contract.Model`: a linear layer for each modality, added up."""

    def __init__(self, manifest: ToyManifest, weights: Mapping[str, Tensor]) -> None:
        self.manifest = manifest
        audio = manifest.audio
        spec = WindowSpec(
            audio.sample_rate_hz,
            round(audio.window_seconds * audio.sample_rate_hz),
            padding="silence",
            positions=(0.5, 0.25, 0.75),
        )
        self.audio: AudioBranch | None = AudioBranch(
            spec, BandListener(audio.bands), first_windows=1, most_windows=audio.most_windows
        )
        self.inputs: Mapping[str, InputBranch] = {TEXT: LettersBranch(), LISTENERS: ListenersBranch(manifest.regions)}
        self.task = LanguageTask(manifest.languages, Bounds({frozenset({TEXT}): 0.2}))
        self._layers = {name: tensor.numpy() for name, tensor in weights.items()}
        sizes = {AUDIO: audio.bands, TEXT: len(LETTERS), LISTENERS: manifest.regions}
        for name, size in sizes.items():
            expected, found = (size, len(manifest.labels)), self._layers.get(name, np.zeros(0)).shape
            if found != expected:
                raise ReleaseError(f"weights.safetensors: '{name}' should be {expected} and is {found}")

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """softmax of the sum of the layers over a temperature; windows are averaged."""
        logits = np.zeros((1, len(self.manifest.labels)), np.float32)
        for name, vector in features.items():
            logits = logits + vector @ self._layers[name]  # (n_windows, classes) with audio, else (1, classes)
        powers = np.exp(logits / self.manifest.temperature.get(mode_name(mode) if mode else "", 1.0))
        rows = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        mean = rows.mean(axis=0)
        windows = rows if AUDIO in features else rows[:0]
        return Scores(mean, windows, enough=bool(mean.max() > self.manifest.sure))


def load(manifest: Manifest, weights: dict[str, Tensor]) -> Model:
    assert isinstance(manifest, ToyManifest)
    return ToyModel(manifest, weights)


FAMILY = Family(ToyManifest, load)


# --- a release of it --------------------------------------------------------------------------------------------------

BANDS, REGIONS, RATE_HZ, WINDOW_SECONDS = 7, 4, 16_000, 2.0
LABELS = [
    {"code": "en", "iso639_3": "eng", "name": "English"},
    {"code": "fr", "iso639_3": "fra", "name": "French"},
    {"code": "others", "iso639_3": None, "name": "Other languages"},
]
CASES = (
    GoldenCase(audio=Tone(pitch_hz=220), title="La vie en rose", further={LISTENERS: [0, 1, 0, 0]}, probabilities=[]),
    GoldenCase(audio=Tone(pitch_hz=440), probabilities=[]),
    GoldenCase(title="Yesterday", probabilities=[]),
    GoldenCase(further={LISTENERS: [0.5, 0.5, 0, 0]}, probabilities=[]),
)


def write_toy_release(store: Path, *, sure: float = 0.9) -> Path:
    """A servable release `toy/1`; returns its folder."""
    rng = np.random.default_rng(0)
    sizes = {AUDIO: BANDS, TEXT: len(LETTERS), LISTENERS: REGIONS}
    weights = {name: torch.from_numpy(rng.normal(size=(n, len(LABELS))).astype(np.float32)) for name, n in sizes.items()}
    data = save(weights)
    manifest = ToyManifest.model_validate(
        {
            "family": "toy",
            "release": "1",
            "created": "2026-01-01",
            "labels": LABELS,
            "sha256": hashlib.sha256(data).hexdigest(),
            "training": {"data": "none: random weights"},
            "metrics": {},
            "audio": {"sample_rate_hz": RATE_HZ, "window_seconds": WINDOW_SECONDS, "bands": BANDS, "most_windows": 3},
            "regions": REGIONS,
            "temperature": {"both": 2.0, "audio+listeners+text": 3.0},
            "sure": sure,
        }
    )
    model = load(manifest, weights)
    folder = store / "toy" / "1"
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(data)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    (folder / GOLDEN).write_text(_golden(model).model_dump_json(indent=1))
    (folder / CARD).write_text("Random weights, for tests.\n")
    return folder


def _golden(model: Model) -> Golden:
    assert model.audio is not None
    prepared = model.audio.listener.prepare(Target("cpu", "fp32"))

    def listen(windows: list[FloatArray]) -> FloatArray:
        return prepared(torch.from_numpy(np.stack(windows))).numpy()

    cases = [case.model_copy(update={"probabilities": answer(model, case, listen).tolist()}) for case in CASES]
    return Golden(cases=cases)
