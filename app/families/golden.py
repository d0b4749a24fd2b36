"""golden.json: synthetic inputs and the probabilities they must give. Replayed after every load.

The audio of a case is a formula, not a file: a chord of decaying harmonics with vibrato. It is written out here so that
any implementation can make the same samples.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from app.domain import AUDIO, FloatArray, Metadata, Track
from app.errors import ReleaseError
from app.families.contract import Model, Precision, Strict

Listen = Callable[[list[FloatArray]], FloatArray]  # windows, each (window_samples,) → (n, n_audio_features)

TOLERANCE: dict[Precision, float] = {
    "fp32": 1e-3,
    "bf16": 3e-2,
    "fp16": 1e-2,
    "int8": 6e-2,  # tones are far from any voice, so answers about them are unsure and move most
}  # largest |Δp|


class Tone(Strict):
    """Synthetic audio: harmonics k = 1..8 of `pitch_hz`, amplitude 0.3 / k, vibrato of 5 Hz, notes of half a second."""

    pitch_hz: float = Field(gt=20, lt=2000)
    vibrato: float = Field(0.02, ge=0, lt=0.2)

    def samples(self, n: int, sample_rate_hz: int) -> FloatArray:
        """(n,) float32 in [-1, 1]."""
        t = np.arange(n) / sample_rate_hz  # seconds
        phase = 2 * math.pi * self.pitch_hz * (t + self.vibrato * np.sin(2 * math.pi * 5 * t) / (2 * math.pi * 5))
        envelope = np.exp(-4 * (t % 0.5))  # notes of half a second
        voice = sum(np.sin(k * phase) / k for k in range(1, 9))
        return (0.3 * envelope * voice).astype(np.float32)


class GoldenCase(Strict):
    audio: Tone | None = None
    artist: str | None = None
    album: str | None = None
    title: str | None = None
    further: dict[str, Any] = Field(default_factory=dict)  # what modalities of the family's own read, by name
    probabilities: list[float]  # in logit order, by the fp32 network

    @property
    def track(self) -> Track:
        """All but the audio."""
        return Track(None, Metadata(artist=self.artist, album=self.album, title=self.title), self.further)


class Golden(Strict):
    cases: list[GoldenCase] = Field(min_length=1)


def load_golden(path: Path) -> Golden:
    """Raises ReleaseError if the file is missing or not of this form."""
    try:
        return Golden.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ReleaseError(f"golden.json cannot be used: {error}") from error


def answer(model: Model, case: GoldenCase, listen: Listen | None) -> FloatArray:
    """The model's probabilities for a case, (n_classes,)."""
    features: dict[str, FloatArray] = {}
    if case.audio is not None and model.audio is not None and listen is not None:
        window = model.audio.window
        features[AUDIO] = listen([case.audio.samples(window.window_samples, window.sample_rate_hz)])
    mode = set(features)
    for modality, branch in model.inputs.items():
        reading = branch.read(case.track)
        if reading is not None:
            features[modality] = reading.vector
            mode |= {modality} if reading.informative else set()
    return model.combine(features, frozenset(mode)).probabilities


def replay(model: Model, golden: Golden, listen: Listen | None, precision: Precision) -> float:
    """Largest |Δp| over all cases; without `listen` those that need no audio. Raises ReleaseError over the tolerance."""
    worst = 0.0
    for number, case in enumerate(golden.cases):
        if case.audio is not None and (listen is None or model.audio is None):
            continue  # the release no longer listens, or the caller cannot
        given = answer(model, case, listen)
        if given.shape != (len(case.probabilities),) or not np.isfinite(given).all():
            raise ReleaseError(f"golden.json: case {number} expects {len(case.probabilities)} finite probabilities")
        difference = float(np.abs(given - np.asarray(case.probabilities, np.float32)).max())
        if difference > TOLERANCE[precision]:
            raise ReleaseError(
                f"golden.json: case {number} differs by {difference:.4f} in {precision}, "
                f"allowed {TOLERANCE[precision]}: this release does not reproduce its own answers here"
            )
        worst = max(worst, difference)
    return worst
