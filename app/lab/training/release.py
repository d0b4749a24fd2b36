"""A checkpoint becomes a release: a folder that explains itself, checks itself, and never changes.

Everything that is measured here (temperatures, thresholds, golden answers, figures) is measured on the stored weights,
that is after they were rounded to fp16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.errors import ReleaseError
from app.families.contract import Label
from app.families.golden import Golden, GoldenCase, Tone
from app.families.golden import answer as golden_answer
from app.families.lrid_net.config import ListenConfig, LridNetManifest, NetworkConfig, ReadConfig, Temperatures, Thresholds
from app.families.lrid_net.config import ModeName as Mode
from app.families.lrid_net.model import LridNetModel
from app.families.lrid_net.profiles import langdetect_languages
from app.lab.evaluation.calibrate import Calibration, calibrate
from app.lab.evaluation.evaluate import Evaluation, EvaluationSet, Heard, Hearer, Progress, answer, hear, report
from app.lab.training import card, checkpoint
from app.lab.training.errors import CheckpointError
from app.lab.training.publish import free_place, publish, weights_bytes

FAMILY = "lrid_net"
Stored = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """What a release is made of."""

    checkpoint: Path
    store: Path
    release: str  # its name, such as "1"
    calibration: Sequence[EvaluationSet]  # validation rows: temperatures and thresholds come from these alone
    figures: Sequence[EvaluationSet] = ()  # measured once, for the card
    data: str  # what it was trained on, in words
    limits: str = ""  # what it does not know, in words
    variant: str = "atdr"  # of the checkpoint
    bf16: bool = True  # f while measuring, as a CPU serves; golden answers are fp32


def make_release(config: ReleaseConfig, progress: Progress = lambda n: None) -> Path:
    """Builds the folder beside its place and renames it there. Raises CorpusError, CheckpointError, ReleaseError."""
    place = free_place(config.store, FAMILY, config.release)
    stored = checkpoint.load(config.checkpoint)
    if stored["variant"] != config.variant:
        raise CheckpointError(
            f"{config.checkpoint} is of variant {stored['variant']!r}, expected {config.variant!r}; say --variant "
            f"{stored['variant']}, or name another checkpoint"
        )
    tensors = weights_of(stored)
    data = weights_bytes(tensors)
    draft = _manifest(config, stored, hashlib.sha256(data).hexdigest())
    sets = [*config.calibration, *config.figures]
    heard = _hear(config, LridNetModel(draft, tensors), sets, progress)
    calibrations = _calibrate(LridNetModel(draft, tensors), [heard[chosen.name] for chosen in config.calibration])
    manifest = _with_calibration(draft, calibrations)
    model = LridNetModel(manifest, tensors)
    evaluations = {name: report(model, answer(model, rows)) for name, rows in heard.items()}
    manifest = manifest.model_copy(update={"metrics": _metrics(evaluations)})
    text = card.write(manifest, calibrations, evaluations, sets=sets, limits=config.limits)
    return publish(place, manifest, data, make_golden(model), text)


def weights_of(stored: Stored) -> dict[str, Tensor]:
    """Tensors as they are stored: convolutions and matrices in fp16, BatchNorm and biases in fp32, no batch counters."""
    tensors = {}
    for name, tensor in stored["network"].items():
        if "num_batches" in name:
            continue
        if not torch.isfinite(tensor).all():
            raise ReleaseError(f"the checkpoint's tensor '{name}' holds NaN or infinite values: train again")
        tensors[name] = (tensor.half() if tensor.dim() > 1 else tensor.float()).contiguous()
    return tensors


def _manifest(config: ReleaseConfig, stored: Stored, sha256: str) -> LridNetManifest:
    codes = stored["labels"]
    known = stored["label_details"]
    return LridNetManifest(
        family=FAMILY,
        release=config.release,
        created=date.today(),
        labels=[Label(**details) for details in known],
        sha256=sha256,
        training={
            "variant": stored["variant"],
            "data": config.data,
            "rows": stored["rows"],
            "class_prior": dict(zip(codes, (round(p, 5) for p in stored["class_prior"]), strict=True)),
            "epochs": stored["best_epoch"] + 1,
            "settings": _settings(stored["config"]),
            "before": [_settings(config) for config in stored["history"]],
        },
        metrics={},
        temperature=Temperatures(),
        thresholds=Thresholds(),
        listen=ListenConfig(**stored["listen_config"]),
        read=ReadConfig(languages=list(langdetect_languages()), seed=stored["text_seed"]),
        network=NetworkConfig(**stored["network_config"]),
    )


def _settings(config: str) -> Any:
    """What decides a training's result, without the places of files; a remark between two trainings stays as it is."""
    try:
        settings = json.loads(config)
    except ValueError:
        return config
    return {name: settings[name] for name in SETTINGS if name in settings}


SETTINGS = (
    "seed", "dropout_rate", "learning_rate", "schedule", "warmup_steps", "batch_size", "text_rows_per_batch",
    "text_class_power", "weak_weight", "crop_seconds", "audio_loss_weight", "augment", "freeze_listener", "precision",
    "network", "epochs", "steps_per_epoch",
)  # fmt: skip


def _hear(
    config: ReleaseConfig, model: LridNetModel, sets: Sequence[EvaluationSet], progress: Progress
) -> dict[str, list[Heard]]:
    """By name of the set; features and readings do not depend on the calibration."""
    codes = [label.code for label in model.manifest.labels]
    return {
        chosen.name: hear(
            model, chosen.rows(codes), Hearer(model, bf16=config.bf16, max_windows=chosen.max_windows), progress
        )
        for chosen in sets
    }


def _calibrate(draft: LridNetModel, sets: Sequence[Sequence[Heard]]) -> dict[Mode, Calibration]:
    """From the union of the calibration sets, each case by itself. The draft's temperatures are 1."""
    answers = answer(draft, [row for heard in sets for row in heard])
    return {mode: calibrate(np.log(np.maximum(given.probabilities, 1e-12)), given.labels) for mode, given in answers.items()}


def _with_calibration(draft: LridNetManifest, found: dict[Mode, Calibration]) -> LridNetManifest:
    return draft.model_copy(
        update={
            "temperature": Temperatures(**{mode: c.temperature for mode, c in found.items()}),
            "thresholds": Thresholds(**{mode: c.threshold for mode, c in found.items()}),
        }
    )


def _metrics(evaluations: dict[str, Evaluation]) -> dict[Mode, dict[str, Any]]:
    found: dict[Mode, dict[str, Any]] = {}
    for name, evaluation in evaluations.items():
        for mode, case in evaluation.items():
            found.setdefault(mode, {})[name] = case.summary()
    return found


def make_golden(model: LridNetModel) -> Golden:
    """Synthetic inputs in every mix of modalities and several scripts, answered by the stored weights in fp32."""
    low, high = Tone(pitch_hz=147.0), Tone(pitch_hz=392.0, vibrato=0.05)
    inputs: list[dict[str, Any]] = [
        {"audio": low, "artist": "The Harbour Lights", "album": "Morning Tide", "title": "Waiting for the Rain"},
        {"audio": high, "title": "Eu quero ver o sol nascer"},
        {"audio": low},
        {"audio": high},
        {"artist": "Los Caminantes", "title": "Corazón de papel"},
        {"title": "桜の花が咲く頃に"},
        {"title": "사랑한다고 말해줘"},
        {"title": "Тёмная ночь над рекой"},
        {"album": "Zimowe noce", "title": "Gdzie jesteś, kiedy śpię"},
        {"title": "1984"},
    ]
    listen = Hearer(model, bf16=False).windows
    cases = []
    for given in inputs:
        asked = GoldenCase(**given, probabilities=[])
        expected = golden_answer(model, asked, listen)
        cases.append(asked.model_copy(update={"probabilities": [round(float(p), 6) for p in expected]}))
    return Golden(cases=cases)
