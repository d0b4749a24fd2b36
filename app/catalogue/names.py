"""Artist, album and title → the answer, many at a time and without an event loop: as fast as the release reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from app.catalogue.processes import Answer
from app.catalogue.rows import Scored
from app.domain import AUDIO, METADATA_FIELDS, TEXT, Metadata, Reading, Track
from app.errors import LridError, MetadataTooLong, ModalityNotUsed, NothingGiven, NothingUsable
from app.families.contract import InputBranch, ManyBranch, Model
from app.families.tasks import Json, View
from app.settings import Settings

SHORT = View(top_k=2)
_NOT_GIVEN: Json = {"used": False, "seconds": None, "windows": 0, "sung_windows": None, "warnings": []}
Readings = Mapping[str, Reading | None]  # by modality


def load_names(settings: Settings) -> Answer:
    """Load the release without its ears. Raises ReleaseError."""
    from app.serving.loading import load_release

    model = load_release(settings, settings.model, listen=False).model
    return partial(answer_names, model, settings.max_metadata_characters)


def answer_names(model: Model, max_characters: int, songs: Sequence[Metadata]) -> list[Scored]:
    """The short form of the answers of POST /identify, equal up to rounding."""
    refused = [_refused(model, max_characters, names) for names in songs]
    tracks = [Track(None, Metadata() if error else names) for names, error in zip(songs, refused, strict=True)]
    read = [_read_many(branch, tracks) for branch in model.inputs.values()]
    return [
        Scored(error=error.code) if error else _scored(model, dict(zip(model.inputs, readings, strict=True)))
        for error, *readings in zip(refused, *read, strict=True)
    ]


def _refused(model: Model, max_characters: int, names: Metadata) -> type[LridError] | None:
    if not names.fields:
        return NothingGiven
    if any(len(getattr(names, name) or "") > max_characters for name in METADATA_FIELDS):
        return MetadataTooLong
    return None if TEXT in model.inputs else ModalityNotUsed


def _read_many(branch: InputBranch, tracks: Sequence[Track]) -> Sequence[Reading | None]:
    return branch.read_many(tracks) if isinstance(branch, ManyBranch) else [branch.read(track) for track in tracks]


def _scored(model: Model, readings: Readings) -> Scored:
    there = {modality: reading for modality, reading in readings.items() if reading is not None}
    used = frozenset([modality for modality, reading in there.items() if reading.informative])
    if not used:
        return Scored(error=NothingUsable.code)
    scores = model.combine({modality: reading.vector for modality, reading in there.items()}, used)
    uses = {AUDIO: _NOT_GIVEN} | {modality: {"used": modality in used} for modality in readings}
    return Scored.of(model.task.answer(scores, used, SHORT) | {"modalities": uses})
