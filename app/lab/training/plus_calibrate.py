"""Temperature and thresholds of an `lrid_net_plus`, from answers to rows that were held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.families.lrid_net.config import ModeName as Mode
from app.lab.evaluation.calibrate import LEAST_ANSWERED, TEMPERATURES, UNREACHABLE, Calibration, calibrate, softmax
from app.lab.evaluation.metrics import coverage_at_precision, expected_calibration_error
from app.lab.training.plus_data import Float64
from app.lab.training.plus_folds import HeldOut

Labels = npt.NDArray[np.int64]
WANTED_IN_LANGUAGE = 0.96  # a little over the 0.95 that is promised: thresholds are the least that reach it here


@dataclass(frozen=True, slots=True)
class PlusCalibration:
    """What goes into the manifest, and what it gives on the rows it was fitted on."""

    modes: dict[Mode, Calibration]
    by_language: dict[str, float]
    answered: dict[str, tuple[float, float, float]]  # by pattern of fields: precision, coverage, ECE


def calibrate_text(held_out: HeldOut, tilt: Float64, codes: list[str]) -> PlusCalibration:
    """`tilt`: (n_classes,) log ratio of the class mixes wanted and trained with; see `calibrate`.

    One temperature for all patterns of given fields. Then each language has the least threshold at which what is answered
    as this language is right often enough (Lee & Coviello tune one for each as well); with too few rows, that of all.
    An audio that is not listened to changes nothing beside text, and is never answered alone: see `temperature_of_nothing`.
    """
    logits = np.concatenate(list(held_out.logits.values()))
    labels = np.tile(held_out.labels, len(held_out.logits))
    text = calibrate(logits, labels, tilt)
    probabilities = softmax(logits + text.temperature * tilt, text.temperature)
    by_language = {}
    for number, code in enumerate(codes):
        said = probabilities.argmax(axis=1) == number
        point = coverage_at_precision(labels[said], probabilities[said], WANTED_IN_LANGUAGE) if said.any() else None
        if point is not None and point.coverage * said.sum() >= LEAST_ANSWERED:
            by_language[code] = round(float(point.threshold), 4)
    found = PlusCalibration(
        {"text_only": text, "both": text, "audio_only": Calibration(1.0, UNREACHABLE, 0.0, 0.0)}, by_language, {}
    )
    thresholds = np.array([by_language.get(code, text.threshold) for code in codes])
    for name, given in held_out.logits.items():
        answers = softmax(given + text.temperature * tilt, text.temperature)
        found.answered[name] = _answered(answers, held_out.labels, thresholds)
    return found


def temperature_of_nothing(probabilities: npt.NDArray[np.floating], mix: Float64) -> float:
    """Of the constant answer, (n_classes,), where nothing can be used: it has the best likelihood on tracks in the mix."""
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(probabilities.astype(np.float64)), -50.0)[None]
    losses = [-float(mix @ np.log(softmax(logits, float(t))[0])) for t in TEMPERATURES]
    return round(float(TEMPERATURES[int(np.argmin(losses))]), 4)


def _answered(probabilities: Float64, labels: Labels, thresholds: Float64) -> tuple[float, float, float]:
    best = probabilities.argmax(axis=1)
    answered = probabilities.max(axis=1) >= thresholds[best]
    right = (best == labels)[answered]
    ece = expected_calibration_error(labels, probabilities.astype(np.float32))
    return float(right.mean()) if right.size else 0.0, float(answered.mean()), float(ece)
