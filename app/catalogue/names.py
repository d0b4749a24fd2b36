"""Artist, album and title → the answer, without an event loop: as fast as the release reads."""

from __future__ import annotations

from functools import partial

from app.catalogue.processes import Answer
from app.domain import AUDIO, METADATA_FIELDS, TEXT, FloatArray, Metadata, Track
from app.errors import MetadataTooLong, ModalityNotUsed, NothingGiven, NothingUsable
from app.families.contract import Model
from app.families.tasks import Json, View
from app.settings import Settings

SHORT = View(top_k=2)
_NOT_GIVEN: Json = {"used": False, "seconds": None, "warnings": []}


def load_names(settings: Settings) -> Answer:
    """Load the release without its ears. Raises ReleaseError."""
    from app.serving.loading import load_release

    return partial(
        answer_names, load_release(settings, settings.model, listen=False).model, settings.max_metadata_characters
    )


def answer_names(model: Model, max_characters: int, names: Metadata) -> Json:
    """What POST /identify would answer, in short. Raises NothingGiven, ModalityNotUsed, NothingUsable, MetadataTooLong."""
    if not names.fields:
        raise NothingGiven("no title, album or artist holds anything")
    if any(len(getattr(names, name) or "") > max_characters for name in METADATA_FIELDS):
        raise MetadataTooLong(f"at most {max_characters} characters are accepted")
    if TEXT not in model.inputs:
        raise ModalityNotUsed("title, album and artist were given; this release does not read them")
    track = Track(None, names)
    features: dict[str, FloatArray] = {}
    mode = set()
    for modality, branch in model.inputs.items():
        if (reading := branch.read(track)) is not None:
            features[modality] = reading.vector
            mode |= {modality} if reading.informative else set()
    if not mode:
        raise NothingUsable("the names hold no text features")
    used = frozenset(mode)
    uses = {AUDIO: _NOT_GIVEN} | {modality: {"used": modality in mode} for modality in model.inputs}
    return model.task.answer(model.combine(features, used), used, SHORT) | {"modalities": uses}
