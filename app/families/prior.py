"""Corrects answers to the class mix of a catalogue (Saerens et al. 2002).

A release's answers contain the class mix it was trained on. Where a catalogue's mix is known, each posterior is
multiplied by the ratio of the two and normalised again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.domain import FloatArray, Mode, Scores
from app.errors import PriorRefused
from app.families.contract import Model

# Tracks by language in Music4All, instrumentals left out (Choi & Wang 2021, §4.1)
MUSIC4ALL: Mapping[str, int] = {
    "en": 84_103, "pt": 7_020, "es": 3_225, "ko": 1_145, "others": 1_059, "fr": 994,
    "ja": 615, "de": 577, "pl": 446, "it": 437, "sv": 231,
}  # fmt: skip


def prior_ratio(catalogue: str, codes: Sequence[str], training: Mapping[str, float]) -> FloatArray:
    """(n_classes,) to multiply posteriors by; `catalogue` is what LRID_CATALOG_PRIOR may be. Raises PriorRefused."""
    if catalogue == "training":
        return np.ones(len(codes), np.float32)
    named: Mapping[str, Mapping[str, float]] = {"uniform": dict.fromkeys(codes, 1.0), "music4all": MUSIC4ALL}
    wanted = named[catalogue] if catalogue in named else _read(Path(catalogue))
    ratio = _shares(wanted, codes, f"catalogue prior {catalogue!r}") / _shares(training, codes, "the release's prior")
    return (ratio / ratio.max()).astype(np.float32)  # type: ignore[no-any-return]


def corrected(probabilities: FloatArray, ratio: FloatArray) -> FloatArray:
    """(..., n_classes) posteriors → the same under the other mix; rows sum to 1."""
    weighted = np.maximum(probabilities, np.finfo(np.float32).tiny) * ratio
    return (weighted / weighted.sum(axis=-1, keepdims=True)).astype(np.float32)  # type: ignore[no-any-return]


class UnderPrior:
    """A model whose scores are corrected to another class mix; implements `contract.Model`."""

    def __init__(self, model: Model, ratio: FloatArray) -> None:
        """`ratio`: (n_classes,), of `prior_ratio`."""
        self._model = model
        self._ratio = ratio
        self.manifest = model.manifest
        self.audio = model.audio
        self.inputs = model.inputs
        self.task = model.task

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """Every window is corrected, and the track too. Thresholds apply to what comes out."""
        scores = self._model.combine(features, mode)
        windows = corrected(scores.windows, self._ratio)
        return replace(scores, windows=windows, probabilities=corrected(scores.probabilities, self._ratio))


def under_prior(model: Model, catalogue: str) -> Model:
    """The model corrected to a catalogue's class mix; under `training` the model itself. Raises PriorRefused."""
    if catalogue == "training":
        return model
    trained = model.manifest.training.get("class_prior")
    trained = trained if isinstance(trained, dict) else {}
    codes = [label.code for label in model.manifest.labels]
    return UnderPrior(model, prior_ratio(catalogue, codes, trained))


def _read(path: Path) -> Mapping[str, float]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PriorRefused(
            f"catalogue prior: {path} cannot be read ({error}); give training, uniform, music4all or a JSON file"
        ) from error
    if not isinstance(found, dict):
        raise PriorRefused(f"catalogue prior: {path} should hold a JSON object of numbers by language code")
    return found


def _shares(mix: Mapping[str, float], codes: Sequence[str], name: str) -> FloatArray:
    """(n_classes,) that sum to 1."""
    if unknown := sorted(set(mix) - set(codes)):
        raise PriorRefused(f"{name}: {unknown[0]!r} is no class of the release; its classes are {', '.join(codes)}")
    for code in codes:
        value = mix.get(code)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise PriorRefused(f"{name}: class {code!r} needs a number over 0, has {value!r}")
    values = np.array([float(mix[code]) for code in codes])
    return values / values.sum()  # type: ignore[no-any-return]
