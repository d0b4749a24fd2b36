"""Loads a release onto the device and proves it with its golden file. Blocking; imports torch."""

import logging
import time
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from app.errors import ReleaseError
from app.families.contract import AudioBranch, Model
from app.families.golden import Golden, GoldenCase, answer, load_golden, replay
from app.families.prior import under_prior
from app.families.store import GOLDEN, Families, load_model, release_folder
from app.serving.engine import Engine, targets
from app.serving.memory import release_memory
from app.settings import Settings

log = logging.getLogger("lrid.loading")

MOST_READ_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and the engine that listens for it, golden.json replayed; no engine if the release does not listen."""

    model: Model
    engine: Engine | None


def load_release(settings: Settings, reference: str, known: Families | None = None, *, listen: bool = True) -> Loaded:
    """Load `family/release`, or the newest of a `family`, and replay its golden file on the engine that will serve it.

    In `precision=auto` a precision that does not reproduce golden.json gives way to the next one. The catalogue's prior
    is applied afterwards: golden answers are the release's own. `known`: instead of the families in the store's dict.
    Without `listen` no engine is prepared, which takes seconds; only the golden cases without audio are replayed.
    Raises ReleaseError.
    """
    started = time.perf_counter()
    # numpy's products run on the event loop. With several threads each would wait, spinning, for a thread that competes with
    # the model for a core. torch's own threads are not affected.
    threadpool_limits(1, user_api="blas")
    folder = release_folder(settings.model_store, reference)
    golden = load_golden(folder / GOLDEN)
    model = load_model(folder, known)
    served = under_prior(model, settings.catalog_prior)  # first, because an error is found quickly
    audio = model.audio if listen else None
    engine, worst = (None, replay(model, golden, None, "fp32")) if audio is None else _proven(model, audio, golden, settings)
    _warn_of_slow_reading(model, golden)
    fields = {
        "model": "/".join(folder.parts[-2:]),
        "device": "none" if engine is None else engine.target.device,
        "precision": "fp32" if engine is None else engine.target.precision,
        "engine": "none" if engine is None else engine.target.backend,
        "catalog_prior": settings.catalog_prior,
        "golden_max_difference": round(worst, 6),
        "seconds": round(time.perf_counter() - started, 2),
    }
    log.info("release loaded", extra={"fields": fields})
    if audio is not None:
        audio.listener.forget()
    release_memory()
    return Loaded(served, engine)


def _proven(model: Model, audio: AudioBranch, golden: Golden, settings: Settings) -> tuple[Engine, float]:
    """The most preferred engine that reproduces golden.json, and the largest |Δp|. Raises ReleaseError if none does."""
    left = targets(audio.listener, settings)
    while True:
        target = left.pop(0)
        try:
            engine = Engine(audio.listener, target)
            engine.settle(audio.window.window_samples)
            return engine, replay(model, golden, engine.listen, target.precision)
        except ReleaseError as error:
            if not left:
                raise
            log.warning("%s is not used: %s", target.precision, error.detail)


def _warn_of_slow_reading(model: Model, golden: Golden) -> None:
    """Everything but listening runs on the event loop, where a slow branch delays every other request."""
    readers = model.inputs.values()
    read = [case for case in golden.cases if any(branch.read(case.track) is not None for branch in readers)]
    cases = [case.model_copy(update={"audio": None}) for case in read]
    seconds = max((min(_seconds_of(model, case) for _ in range(3)) for case in cases), default=0.0)
    if seconds > MOST_READ_SECONDS:
        log.warning("reading a track without audio takes %.0f ms on the event loop, other requests wait", 1e3 * seconds)


def _seconds_of(model: Model, case: GoldenCase) -> float:
    """Processor time, which barely depends on other load."""
    started = time.thread_time()
    answer(model, case, None)
    return time.thread_time() - started
