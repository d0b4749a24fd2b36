"""A trained text side and a finished f become a release of `lrid_net_plus`.

Everything that is measured here is measured on the stored weights, that is after they were rounded to fp16.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from app.domain import METADATA_FIELDS, FloatArray, Metadata
from app.errors import ReleaseError
from app.evaluation.calibrate import UNREACHABLE, Calibration, calibrate
from app.evaluation.evaluate import Evaluation, EvaluationSet, Hearer, answer, hear, report
from app.families.contract import Mode, Temperatures, Thresholds
from app.families.golden import Golden, GoldenCase, Tone
from app.families.golden import answer as golden_answer
from app.families.lrid_net_plus.config import LridNetPlusManifest
from app.families.lrid_net_plus.model import TABLE, LridNetPlusModel, listen_to_zeros
from app.families.store import CARD, GOLDEN, MANIFEST, WEIGHTS
from app.training import plus_card
from app.training.corpus import Row
from app.training.plus_audio import Trunk
from app.training.plus_data import Float64
from app.training.release import verify
from app.training.train_plus import PlusConfig, TextNet

FAMILY = "lrid_net_plus"
MAX_WEIGHTS_MB = 80.0  # 10^6 bytes: f takes 47, the table of n-grams and the rest may take 30
MIXED_ROWS = 4000  # of a calibration set brought to the class mix of the training
FIELDS_GIVEN = {"title only": ("title",), "artist + title": ("artist", "title")}


@dataclass(frozen=True, kw_only=True)
class PlusReleaseConfig:
    """What a release is made of."""

    store: Path
    release: str
    text_rows: EvaluationSet  # validation rows: temperature and threshold of text come from these alone
    audio_rows: EvaluationSet | None = None  # validation rows with audio, where the audio is listened to
    figures: Sequence[EvaluationSet] = ()  # measured once, for the card
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
    place = config.store / FAMILY / config.release
    if place.exists():
        raise ReleaseError(f"{place} exists; releases never change: choose another name")
    tensors = assemble(parts)
    data = safetensors_bytes(tensors)
    if len(data) > MAX_WEIGHTS_MB * 1e6:
        raise ReleaseError(f"weights take {len(data) / 1e6:.1f} MB, a release may have {MAX_WEIGHTS_MB:g}")
    draft = _manifest(config, trained, parts, hashlib.sha256(data).hexdigest())
    calibrations = _calibrations(config, trained, LridNetPlusModel(draft, tensors), parts.listens)
    manifest = draft.model_copy(
        update={
            "temperature": Temperatures(**{mode: c.temperature for mode, c in calibrations.items()}),
            "thresholds": Thresholds(**{mode: c.threshold for mode, c in calibrations.items()}),
        }
    )
    model = LridNetPlusModel(manifest, tensors)
    evaluations = _measure(config, model)
    metrics = {"text_only": {name: evaluation["text_only"].summary() for name, evaluation in evaluations.items()}}
    manifest = manifest.model_copy(update={"metrics": metrics})

    config.store.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".making-", dir=config.store))
    try:
        folder = staging / FAMILY / config.release
        folder.mkdir(parents=True)
        (folder / WEIGHTS).write_bytes(data)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / GOLDEN).write_text(make_golden(model).model_dump_json(indent=1) + "\n", encoding="utf-8")
        notes = {chosen.name: chosen.note for chosen in [config.text_rows, *config.figures]}
        text = plus_card.write(manifest, calibrations, evaluations, notes=notes, limits=config.limits)
        (folder / CARD).write_text(text, encoding="utf-8")
        verify(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)  # fails if somebody made one meanwhile
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def assemble(parts: Parts) -> dict[str, Tensor]:
    """Tensors by name: f as its release stores it, matrices in fp16, BatchNorm and biases in fp32."""
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
    return {name: t for name, t in parts.trunk_tensors.items() if name.startswith("f.")} | stored


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
            "class_prior": dict(zip(trained.codes, trained.class_mix().round(5).tolist(), strict=True)),
            "settings": {name: value for name, value in settings.items() if name not in left_out},
        },
        metrics={},
        temperature=Temperatures(),
        thresholds=Thresholds(),
        listen=trunk.listen,
        read=trained.read,
        network=trunk.network.model_copy(update=sizes),
    )


def _calibrations(
    config: PlusReleaseConfig, trained: PlusConfig, draft: LridNetPlusModel, listens: bool
) -> dict[Mode, Calibration]:
    """Text from metadata rows brought to the training's class mix. An audio that is not listened to changes nothing."""
    rows = [replace(row, path=None) for row in config.text_rows.rows(trained.codes)]
    heard = hear(draft, mixed(rows, trained.class_mix(), MIXED_ROWS), Hearer(draft, bf16=False))
    text = answer(draft, heard)["text_only"]
    found: dict[Mode, Calibration] = {"text_only": calibrate(_logarithms(text.probabilities), text.labels)}
    found |= {"both": found["text_only"], "audio_only": Calibration(1.0, UNREACHABLE, 0.0, 0.0)}
    if listens:
        if config.audio_rows is None:
            raise ReleaseError("a release that listens needs audio_rows to calibrate on")
        answers = answer(draft, hear(draft, config.audio_rows.rows(trained.codes), Hearer(draft, bf16=True)))
        for mode in ("both", "audio_only"):
            found[mode] = calibrate(_logarithms(answers[mode].probabilities), answers[mode].labels)
    return found


def mixed(rows: Sequence[Row], mix: Float64, n: int) -> list[Row]:
    """About `n` rows in the class mix asked for: those of a class evenly picked, or repeated; always the same."""
    by_class: dict[int, list[Row]] = {}
    for row in rows:
        by_class.setdefault(row.label, []).append(row)
    chosen = []
    for label, found in sorted(by_class.items()):
        wanted = max(1, round(n * float(mix[label])))
        chosen += [found[i * len(found) // wanted] for i in range(wanted)]
    return chosen


def _logarithms(probabilities: FloatArray) -> FloatArray:
    return np.log(np.maximum(probabilities, 1e-12))


def _measure(config: PlusReleaseConfig, model: LridNetPlusModel) -> dict[str, Evaluation]:
    """Text alone, on each set as it is, and with fields left out."""
    codes = [label.code for label in model.manifest.labels]
    hearer = Hearer(model, bf16=False)
    found = {}
    for chosen in [config.text_rows, *config.figures]:
        rows = [replace(row, path=None) for row in chosen.rows(codes)]
        found[chosen.name] = report(model, answer(model, hear(model, rows, hearer)))
        for given, names in FIELDS_GIVEN.items():
            partial = [replace(row, metadata=_only(row.metadata, names)) for row in rows]
            partial = [row for row in partial if row.metadata.fields]
            found[f"{chosen.name}, {given}"] = report(model, answer(model, hear(model, partial, hearer)))
    return found


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
