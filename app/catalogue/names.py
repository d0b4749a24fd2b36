"""Artist, album, title and lyrics → the answer, many at a time and without an event loop: as fast as the release reads."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

from app.catalogue.rows import Scored
from app.domain import AUDIO, METADATA_FIELDS, TEXT, Metadata, Reading, Track
from app.errors import InternalError, LridError, MetadataTooLong, ModalityNotUsed, NothingGiven, NothingUsable
from app.families.contract import Model, further_fields, read_each
from app.families.fields import further_values
from app.families.tasks import Json, View
from app.settings import Settings

SHORT = View(top_k=2)
_NOT_GIVEN: Json = {"used": False, "seconds": None, "windows": 0, "sung_windows": None, "warnings": []}
Answer = Callable[[Sequence[Track]], list[Scored]]  # tracks without audio
Readings = Mapping[str, Reading | None]  # by modality


def names_processes(n: int) -> ProcessPoolExecutor:
    """Make processes for calls of `scored_in_process`. Each starts with the first call that finds no other free."""
    return ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), _live_with_parent)


def _live_with_parent() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def scored_in_process(settings: Settings, songs: Sequence[Track]) -> list[Scored]:
    """Load the release in the first call in a process, and keep it. Raises ReleaseError."""
    return scored_by_names(_loaded(settings), songs)


def scored_by_names(answer: Answer, songs: Sequence[Track]) -> list[Scored]:
    """A song that cannot be answered costs only itself."""
    try:
        return answer(songs)
    except Exception:
        if len(songs) == 1:
            return [Scored(error=InternalError.code)]
        return [scored for one in songs for scored in scored_by_names(answer, [one])]


def load_names(settings: Settings) -> Answer:
    """Load the release without its audio network. Raises ReleaseError."""
    from app.serving.loading import load_release

    model = load_release(settings, settings.model, listen=False).model
    return partial(answer_names, model, settings.max_metadata_characters)


_loaded = cache(load_names)


def answer_names(model: Model, max_characters: int, songs: Sequence[Track]) -> list[Scored]:
    """The short form of the answers of POST /identify, equal up to rounding. What the release does not read is ignored."""
    checked = [_checked(model, max_characters, song) for song in songs]
    tracks = [Track(None, Metadata()) if isinstance(one, LridError) else one for one in checked]
    read = [read_each(branch, tracks) for branch in model.inputs.values()]
    return [
        Scored(error=one.code)
        if isinstance(one, LridError)
        else _scored(model, dict(zip(model.inputs, readings, strict=True)))
        for one, *readings in zip(checked, *read, strict=True)
    ]


def _checked(model: Model, max_characters: int, song: Track) -> Track | LridError:
    try:
        further = further_values(song.further, further_fields(model)) if song.further else {}
    except LridError as error:
        return error
    names = song.metadata
    if not names.fields and not further:
        return NothingGiven()
    if any(len(getattr(names, name) or "") > max_characters for name in METADATA_FIELDS):
        return MetadataTooLong()
    return Track(None, names, further) if further or TEXT in model.inputs else ModalityNotUsed()


def _scored(model: Model, readings: Readings) -> Scored:
    there = {modality: reading for modality, reading in readings.items() if reading is not None}
    used = frozenset([modality for modality, reading in there.items() if reading.informative])
    if not used:
        return Scored(error=NothingUsable.code)
    scores = model.combine({modality: reading.vector for modality, reading in there.items()}, used)
    uses = {AUDIO: _NOT_GIVEN} | {modality: {"used": modality in used} for modality in readings}
    return Scored.of(model.task.answer(scores, used, SHORT) | {"modalities": uses})
