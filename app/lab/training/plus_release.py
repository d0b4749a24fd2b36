"""A trained text side and a finished f become a release of `lrid_net_plus`.

Everything that is measured here is measured on the stored weights, that is after they were rounded to fp16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.domain import METADATA_FIELDS, FloatArray, Metadata
from app.errors import ReleaseError
from app.families.golden import Golden, GoldenCase, Tone
from app.families.golden import answer as golden_answer
from app.families.lrid_net.config import ModeName as Mode
from app.families.lrid_net.config import Temperatures, Thresholds
from app.families.lrid_net.model import listen_to_zeros
from app.families.lrid_net_plus.config import LridNetPlusManifest
from app.families.lrid_net_plus.model import TABLE, LridNetPlusModel
from app.families.lrid_net_plus.packed import packed, unpacked
from app.families.prior import MUSIC4ALL, under_prior
from app.lab.evaluation.calibrate import Calibration, calibrate
from app.lab.evaluation.evaluate import CaseReport, Evaluation, EvaluationSet, Hearer, answer, hear, report
from app.lab.training import plus_card
from app.lab.training.plus_audio import Trunk
from app.lab.training.plus_calibrate import calibrate_text, temperature_of_nothing
from app.lab.training.plus_data import Float64
from app.lab.training.plus_folds import HeldOut
from app.lab.training.plus_merge import tilted
from app.lab.training.publish import free_place, publish, weights_bytes
from app.lab.training.train_plus import PlusConfig, TextNet

FAMILY = "lrid_net_plus"
FIELDS_GIVEN = {"title only": ("title",), "artist + title": ("artist", "title")}


@dataclass(frozen=True, kw_only=True)
class PlusReleaseConfig:
    """What a release is made of."""

    store: Path
    release: str
    held_out: HeldOut  # answers to rows held out: temperature and thresholds of text come from these alone
    held_out_note: str  # what these rows are, in words
    answer_mix: Mapping[str, float]  # the class mix that is wanted in its answers, by code
    audio_rows: EvaluationSet | None = None  # validation rows with audio, where the audio is listened to
    figures: Sequence[EvaluationSet] = ()  # measured once, for the card: by their text alone, or all three cases with audio
    data: str  # what it was trained on, in words
    limits: str  # what it does not know, in words


@dataclass(frozen=True, slots=True)
class Parts:
    """What was learnt: the text's side, f, and how the audio enters h (zeros: not at all)."""

    text: TextNet
    n_text_rows: int
    trunk: Trunk
    trunk_tensors: dict[str, Tensor]  # of its release, as stored
    audio_weight: Tensor  # (256, n_audio_features)

    @property
    def listens(self) -> bool:
        return bool(self.audio_weight.any())


def make_plus_release(config: PlusReleaseConfig, trained: PlusConfig, parts: Parts) -> Path:
    """Builds the folder beside its place and renames it there. Raises CorpusError and ReleaseError."""
    place = free_place(config.store, FAMILY, config.release)
    mix = _mix(config.answer_mix, trained.codes)
    calibration = calibrate_text(config.held_out, np.log(mix / trained.class_mix()), trained.codes)
    temperature = calibration.modes["text_only"].temperature
    parts = replace(parts, text=tilted(parts.text, trained.class_mix(), mix, temperature))
    tensors = assemble(parts)
    data = weights_bytes(tensors)
    draft = _manifest(config, trained, parts, hashlib.sha256(data).hexdigest())
    plain = LridNetPlusModel(draft, tensors)
    if parts.listens:
        calibration.modes.update(_calibrations_with_audio(config, trained, plain))
    else:
        nothing = plain.combine(
            {"audio": np.zeros((1, plain.network.f.n_features), np.float32)}, frozenset({"audio"})
        ).probabilities
        alone = replace(calibration.modes["audio_only"], temperature=temperature_of_nothing(nothing, mix))
        calibration.modes["audio_only"] = alone
    manifest = draft.model_copy(
        update={
            "temperature": Temperatures(**{mode: c.temperature for mode, c in calibration.modes.items()}),
            "thresholds": Thresholds(
                **{mode: c.threshold for mode, c in calibration.modes.items()}, by_language=calibration.by_language
            ),
        }
    )
    model = LridNetPlusModel(manifest, tensors)
    evaluations, priors = _measure(config, model)
    metrics: dict[Mode, dict[str, Any]] = {}
    for name, evaluation in evaluations.items():
        for mode, case in evaluation.items():
            metrics.setdefault(mode, {})[name] = case.summary()
    for prior, found in priors.items():
        metrics.setdefault("text_only", {})[prior] = found.summary()
    manifest = manifest.model_copy(update={"metrics": metrics})
    told = plus_card.Told(calibration, evaluations, priors, {chosen.name: chosen.note for chosen in config.figures})
    text = plus_card.write(manifest, told, held_out_note=config.held_out_note, limits=config.limits)
    return publish(place, manifest, data, make_golden(model), text)


def assemble(parts: Parts) -> dict[str, Tensor]:
    """Tensors by name: f's convolutions in eight bits, matrices in fp16, BatchNorm and biases in fp32."""
    network = {name: tensor for name, tensor in parts.text.state_dict().items() if "num_batches" not in name}
    text_weight = network["h.0.0.weight"][:, parts.text.n_audio :]  # (256, 128)
    audio_weight = parts.audio_weight.half().float()
    silence = torch.from_numpy(listen_to_zeros(parts.trunk.network, parts.trunk.manifest.listen))
    network["h.0.0.weight"] = torch.cat([audio_weight, text_weight], dim=1)
    network["h.0.0.bias"] = network["h.0.0.bias"] - audio_weight @ silence  # the distance from silence is what counts
    network[TABLE] = network.pop("table")
    for name, tensor in network.items():
        if not torch.isfinite(tensor).all():
            raise ReleaseError(f"the trained tensor '{name}' holds NaN or infinite values: train again")
    stored = {name: (t.half() if t.dim() > 1 else t.float()).contiguous() for name, t in network.items()}
    for name, tensor in unpacked(parts.trunk_tensors).items():
        if name.startswith("f."):
            stored |= packed(name, tensor) if tensor.dim() == 4 else {name: tensor.float().contiguous()}
    return stored


def _manifest(config: PlusReleaseConfig, trained: PlusConfig, parts: Parts, sha256: str) -> LridNetPlusManifest:
    trunk = parts.trunk.manifest
    sizes = {name: getattr(trained.network, name) for name in ("text_units", "text_layers", "identify_units")}
    settings = json.loads(trained.as_json())
    left_out = {"manifest", "output", "labels", "read", "network", "threads", "resume", "class_mix"}
    return LridNetPlusManifest(
        family=FAMILY,
        release=config.release,
        created=date.today(),
        labels=list(trained.labels),
        sha256=sha256,
        training={
            "data": config.data,
            "rows": parts.n_text_rows,
            "listens": parts.listens,
            "trunk": f"{trunk.family}/{trunk.release} ({trunk.sha256[:12]})",
            "class_prior": dict(zip(trained.codes, _mix(config.answer_mix, trained.codes).round(5).tolist(), strict=True)),
            "class_mix_of_batches": dict(zip(trained.codes, trained.class_mix().round(5).tolist(), strict=True)),
            "settings": {name: value for name, value in settings.items() if name not in left_out},
        },
        metrics={},
        temperature=Temperatures(),
        thresholds=Thresholds(),
        listen=trunk.listen,
        read=trained.read,
        network=trunk.network.model_copy(update=sizes),
    )


def _mix(shares: Mapping[str, float], codes: Sequence[str]) -> Float64:
    """(n_classes,) that sum to 1."""
    values = np.array([float(shares[code]) for code in codes])
    return values / values.sum()  # type: ignore[no-any-return]


def _calibrations_with_audio(
    config: PlusReleaseConfig, trained: PlusConfig, draft: LridNetPlusModel
) -> dict[Mode, Calibration]:
    """Of a release that listens."""
    if config.audio_rows is None:
        raise ReleaseError("a release that listens needs audio_rows to calibrate on")
    answers = answer(draft, hear(draft, config.audio_rows.rows(trained.codes), Hearer(draft, bf16=True)))
    modes: tuple[Mode, ...] = ("both", "audio_only")
    return {mode: calibrate(_logarithms(answers[mode].probabilities), answers[mode].labels) for mode in modes}


def _logarithms(probabilities: FloatArray) -> FloatArray:
    return np.log(np.maximum(probabilities, 1e-12))


def _measure(config: PlusReleaseConfig, model: LridNetPlusModel) -> tuple[dict[str, Evaluation], dict[str, CaseReport]]:
    """Each set as it is; where it has no audio, also with fields left out, and under other priors."""
    codes = [label.code for label in model.manifest.labels]
    found: dict[str, Evaluation] = {}
    priors: dict[str, CaseReport] = {}
    for chosen in config.figures:
        hearer = Hearer(model, bf16=True, max_windows=chosen.max_windows)
        rows = chosen.rows(codes)
        heard = hear(model, rows, hearer)
        asked = under_prior(model, chosen.catalog_prior)
        found[chosen.name] = report(asked, answer(asked, heard))
        if any(row.path for row in rows):
            continue
        for given, names in FIELDS_GIVEN.items():
            partial = [replace(row, metadata=_only(row.metadata, names)) for row in rows]
            partial = [row for row in partial if row.metadata.fields]
            found[f"{chosen.name}, {given}"] = report(model, answer(model, hear(model, partial, hearer)))
        for prior in ("uniform", "music4all") if set(codes) == set(MUSIC4ALL) else ("uniform",):
            other = under_prior(model, prior)
            priors[f"{chosen.name}, prior {prior}"] = report(other, answer(other, heard))["text_only"]
    return found, priors


def _only(metadata: Metadata, names: Sequence[str]) -> Metadata:
    return Metadata(**{name: getattr(metadata, name) for name in METADATA_FIELDS if name in names})


GOLDEN_INPUTS: list[dict[str, Tone | str]] = [
    {"artist": "The Harbour Lights", "album": "Morning Tide", "title": "Waiting for the Rain"},
    {"title": "Waiting for the Rain"},
    {"artist": "Los Caminantes", "title": "Corazón de papel"},
    {"album": "Zimowe noce", "title": "Gdzie jesteś, kiedy śpię"},
    {"artist": "Les Enfants du Canal", "album": "Sous les ponts", "title": "J'attends l'été"},
    {"artist": "Nachtzug", "title": "Über den Dächern der Stadt"},
    {"title": "桜の花が咲く頃に"},
    {"artist": "봄비", "title": "사랑한다고 말해줘"},
    {"title": "Тёмная ночь над рекой"},
    {"title": "Sommaren är kort, säger hon"},
    {"title": "1984"},
    {"audio": Tone(pitch_hz=147.0), "artist": "Os Amigos da Praia", "title": "Eu quero ver o sol nascer"},
    {"audio": Tone(pitch_hz=392.0, vibrato=0.05)},
]


def make_golden(model: LridNetPlusModel) -> Golden:
    """Synthetic inputs in every mix of modalities and fields, and several scripts, answered by the weights in fp32."""
    listen = Hearer(model, bf16=False).windows
    cases = []
    for given in GOLDEN_INPUTS:
        asked = GoldenCase.model_validate({**given, "probabilities": []})
        expected = golden_answer(model, asked, listen)
        cases.append(asked.model_copy(update={"probabilities": [round(float(p), 6) for p in expected]}))
    return Golden(cases=cases)
