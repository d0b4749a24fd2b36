"""Makes a release of a draft: a folder that explains itself, checks itself, and never changes.

Everything that is measured here (temperatures, thresholds, golden answers, figures) is measured on the stored weights,
that is after they were rounded to what is on disk.
"""

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save as safetensors_bytes

from app.domain import AUDIO, LYRICS, TEXT
from app.errors import ReleaseError
from app.families.contract import Manifest, Model, VectorField, further_fields
from app.families.golden import Golden, GoldenCase, Tone, load_golden, replay
from app.families.golden import answer as golden_answer
from app.families.store import CARD, GOLDEN, MANIFEST, WEIGHTS, families, load_model
from app.lab import markdown as md
from app.lab.evaluation.answers import EvaluationSet, answer, read_inputs
from app.lab.evaluation.calibrate import WANTED_PRECISION, Calibration, calibrate
from app.lab.evaluation.evaluate import describe
from app.lab.evaluation.report import case_report, markdown, title
from app.lab.features import FeatureExtractor
from app.lab.progress import QUIET, Progress
from app.lab.training.config import MAY_CHANGE
from app.lab.training.recipe import Draft, Figures

NOTE = (
    "P / R / F1, macro over the classes that occur and weighted by support. *ECE* over 15 bins. *Precision* (of what is "
    "answered) and *coverage* are those of its own decisions; the rest is answered `und`."
)
SET, ROWS = "validation", "split=valid of the calibration catalogue"  # what manifests and cards call the rows
MAX_WEIGHTS_MB = 95.0  # 10^6 bytes: releases are committed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseConfig:
    """Says what a release is made of, beside its draft."""

    store: Path
    release: str  # its name, such as "1"
    calibration: EvaluationSet | None  # validation rows: temperatures, thresholds and the card's figures
    data: str  # what it was trained on, in words
    limits: str = ""  # what it does not know, in words
    settings: Mapping[str, Any] | None = None  # of the training


def make_release(draft: Draft, config: ReleaseConfig, progress: Progress = QUIET) -> Path:
    """Builds the folder beside its place and renames it there. Raises CorpusError, ReleaseError."""
    place = config.store / draft.manifest.family / config.release
    if place.exists():
        raise ReleaseError(f"{place} exists; releases never change: choose another name")
    data = safetensors_bytes(dict(draft.tensors))
    if len(data) > MAX_WEIGHTS_MB * 1e6:
        raise ReleaseError(f"weights take {len(data) / 1e6:.1f} MB, a release may have {MAX_WEIGHTS_MB:g}")
    settings = {name: value for name, value in (config.settings or {}).items() if name not in MAY_CHANGE | {"labels"}}
    manifest = draft.manifest.model_copy(
        update={
            "release": config.release,
            "sha256": hashlib.sha256(data).hexdigest(),
            "training": {"data": config.data, "settings": settings, **draft.manifest.training},
        }
    )
    manifest, calibrations, found = _measured(manifest, draft, config.calibration, progress)
    manifest = manifest.model_copy(update={"metrics": {mode: {SET: own} for mode, own in found.by_mode.items()}})
    golden = make_golden(_loaded(manifest, draft), draft.golden)
    return _publish(place, manifest, data, golden, card_of(manifest, draft, calibrations, config.limits, found.page))


def _measured(
    manifest: Manifest, draft: Draft, chosen: EvaluationSet | None, progress: Progress
) -> tuple[Manifest, dict[str, Calibration], Figures]:
    """Calibrates the manifest, unless the recipe has done so, and measures what the recipe does, or a single label."""
    if chosen is None:
        return manifest, {}, Figures({}, "None were measured." if draft.measure else NOTE)
    model, codes = _loaded(manifest, draft), [label.code for label in manifest.labels]
    if draft.measure is not None:
        found = draft.measure([model], chosen, progress)
        return manifest, {}, replace(found, page=f"### {SET}\n{describe(chosen, found.rows)} {ROWS}\n\n{found.page}")
    inputs = read_inputs(model, chosen.rows(codes, model.task.column), chosen.extractor(model), progress)
    calibrations: dict[str, Calibration] = {}
    if not draft.calibrated:
        for mode, given in answer(model, inputs).items():
            sung = given.labels >= 0
            logits = np.log(np.maximum(given.probabilities[sung], 1e-12))  # the answers' temperature is 1
            calibrations[mode] = calibrate(logits, given.labels[sung])
        manifest = _calibrated(manifest, calibrations)
    cases = {mode: case_report(given, codes) for mode, given in answer(_loaded(manifest, draft), inputs).items()}
    page = f"{NOTE}\n\n### {SET}\n{ROWS}\n\n{markdown(cases)}".rstrip()
    return manifest, calibrations, Figures({mode: case.summary() for mode, case in cases.items()}, page)


def _loaded(manifest: Manifest, draft: Draft) -> Model:
    return families()[manifest.family].load(manifest, draft.tensors)


def _calibrated(manifest: Manifest, found: Mapping[str, Calibration]) -> Manifest:
    """Sets temperatures and thresholds in the manifest; those of modes without rows stay."""
    before = manifest.model_dump()
    temperature = before["temperature"] | {mode: c.temperature for mode, c in found.items()}
    thresholds = before["thresholds"] | {mode: c.threshold for mode, c in found.items()}
    return type(manifest).model_validate(before | {"temperature": temperature, "thresholds": thresholds})


LOW, HIGH = Tone(pitch_hz=147.0), Tone(pitch_hz=392.0, vibrato=0.05)
GOLDEN_INPUTS: tuple[Mapping[str, Any], ...] = (
    {"audio": LOW, "artist": "The Harbour Lights", "album": "Morning Tide", "title": "Waiting for the Rain"},
    {"audio": HIGH, "title": "Eu quero ver o sol nascer"},
    {"audio": LOW},
    {"audio": HIGH},
    {"artist": "Los Caminantes", "title": "Corazón de papel"},
    {"title": "桜の花が咲く頃に"},
    {"title": "사랑한다고 말해줘"},
    {"title": "Тёмная ночь над рекой"},
    {"album": "Zimowe noce", "title": "Gdzie jesteś, kiedy śpię"},
    {"title": "1984"},
    {"further": {LYRICS: "[Chorus]\nIch hab den Mantel noch an der Tür\nder Regen zählt jede Stufe"}},
    {"title": "La vie est belle", "further": {LYRICS: "Summer came and I was standing on your street\nholding a suitcase"}},
    {"audio": LOW, "further": {LYRICS: "君のドアの前に上着を置いてきた"}},
    {"audio": HIGH, "title": "Vinterdag", "further": {LYRICS: "[00:12.50]Jag lämnade min jacka vid din dörr"}},
)


def make_golden(model: Model, further_inputs: Sequence[Mapping[str, Any]] = ()) -> Golden:
    """Answers synthetic inputs in every mix of modalities and several scripts, by the stored weights in fp32."""
    listen = FeatureExtractor(model.audio).windows if model.audio else None
    cases = []
    for given in [*GOLDEN_INPUTS, *_vectors(model), *further_inputs]:
        further = set(given.get("further", ()))
        read = AUDIO in given or further or TEXT in model.inputs
        if (AUDIO in given and listen is None) or not read or not further <= model.inputs.keys():
            continue
        asked = GoldenCase(**given, probabilities=[])
        expected = golden_answer(model, asked, listen)
        cases.append(asked.model_copy(update={"probabilities": [round(float(p), 6) for p in expected]}))
    return Golden(cases=cases)


def _vectors(model: Model) -> list[Mapping[str, Any]]:
    """Makes two cases of each vector that a request may send: alone and beside audio."""
    fields = {name: field for name, field in further_fields(model).items() if isinstance(field, VectorField)}
    given = [{name: [round(math.sin(i + 1), 4) for i in range(field.length)]} for name, field in fields.items()]
    return [case for further in given for case in ({"further": further}, {"audio": LOW, "further": further})]


def card_of(manifest: Manifest, draft: Draft, calibrations: Mapping[str, Calibration], limits: str, figures: str) -> str:
    """Returns Markdown. `calibrations`: by mode; empty where the recipe calibrates. `figures`: what was measured."""
    training = manifest.training
    labels = ", ".join(f"{label.code} ({label.name})" for label in manifest.labels)
    parts = [
        f"# {manifest.family}/{manifest.release}",
        f"{draft.about}; {len(manifest.labels)} classes: {labels}.",
        "## What it was trained on",
        training["data"],
        _rows_and_prior(training.get("rows"), training.get("class_prior")),
        "## What it does not know",
        limits or "Nothing was stated.",
        *(f"## {head}\n\n{text}" for head, text in draft.notes.items()),
        _calibration_section(calibrations),
        "## Figures",
        figures,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows_and_prior(rows: Mapping[str, int] | None, prior: Mapping[str, float] | None) -> str:
    told = []
    if rows:
        told.append(", ".join(f"{n:,} rows with {'audio' if kind == 'audio' else kind}" for kind, n in rows.items()) + ".")
    if prior:
        shares = ", ".join(f"{code} {share:.1%}" for code, share in prior.items())
        told.append(f"Class mix of a training batch (the prior in its answers): {shares}.")
    return " ".join(told)


def _calibration_section(calibrations: Mapping[str, Calibration]) -> str:
    if not calibrations:
        return ""
    reached = {mode: (c.precision, c.coverage) if c.coverage else ("not reached", 0) for mode, c in calibrations.items()}
    rows = [(title(mode), f"{c.temperature:g}", f"{c.threshold:g}", *reached[mode]) for mode, c in calibrations.items()]
    heads = ["case", "temperature", "threshold", "precision (validation)", "coverage (validation)"]
    return (
        "## When it answers\n\n"
        "Temperatures and thresholds were fitted on validation rows, each case by itself: the least threshold with "
        f"{WANTED_PRECISION:.0%} right answers among those given. Below it the answer is `und`.\n\n{md.table(heads, rows)}"
    )


def _publish(place: Path, manifest: Manifest, data: bytes, golden: Golden, card: str) -> Path:
    """Builds the folder elsewhere in the store, verifies it, and renames it to `place`. Raises ReleaseError, OSError."""
    store = place.parent.parent
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=store, ignore_cleanup_errors=True) as staging:
        folder = Path(staging) / manifest.family / manifest.release
        folder.mkdir(parents=True)
        (folder / WEIGHTS).write_bytes(data)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / GOLDEN).write_text(golden.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / CARD).write_text(card, encoding="utf-8")
        verify(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)  # fails if somebody made one meanwhile
    return place


def verify(folder: Path) -> float:
    """Checks hash, schema, weights, and golden.json in fp32; returns the largest |Δp|. Raises ReleaseError."""
    model = load_model(folder)
    if not (folder / CARD).is_file():
        raise ReleaseError(f"{CARD} is missing: a release says what it knows and what it does not")
    return replay(
        model, load_golden(folder / GOLDEN), FeatureExtractor(model.audio).windows if model.audio else None, "fp32"
    )
