"""A release from the store onto the device, proven by its golden file. Blocking; imports torch."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from app.errors import ReleaseError
from app.families.contract import Model
from app.families.golden import load_golden, replay
from app.families.prior import under_prior
from app.families.store import GOLDEN, load_model, release_folder
from app.serving.engine import Engine, EngineChoice, choose
from app.serving.memory import release_memory
from app.settings import Settings

log = logging.getLogger("lrid.loading")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and the engine that listens for it, golden.json replayed."""

    model: Model
    engine: Engine


def load_release(settings: Settings, reference: str) -> Loaded:
    """Load `family/release`, or a `family`'s newest, and replay its golden file on the very engine that will serve.

    In `precision=auto` a reduced precision that does not reproduce golden.json falls back to fp32. The catalogue's prior
    is applied afterwards: golden answers are the release's own. Raises ReleaseError.
    """
    started = time.perf_counter()
    # numpy's products are those of g and h, on the event loop: shared out, they wait for a thread that has to get a core
    # among those of the trunk, and spin meanwhile. torch's own threads are another matter.
    threadpool_limits(1, user_api="blas")
    folder = release_folder(settings.model_store, reference)
    golden = load_golden(folder / GOLDEN)
    model = load_model(folder)
    served = under_prior(model, settings.catalog_prior)  # first, since it is quick to refuse
    try:
        choice = choose(
            device=settings.device,
            precision=settings.precision,
            threads=settings.torch_threads,
            backend=settings.engine,
        )
    except ValueError as error:
        raise ReleaseError(str(error)) from error
    engine = _engine(model, choice)
    try:
        worst = replay(model, golden, engine.listen, choice.precision)
    except ReleaseError:
        if settings.precision != "auto" or choice.precision == "fp32":
            raise
        log.warning("%s does not reproduce golden.json; serving in fp32", choice.precision)
        engine = _engine(model, EngineChoice(choice.device, "fp32", choice.batch_size))
        worst = replay(model, golden, engine.listen, "fp32")
    fields = {
        "model": "/".join(folder.parts[-2:]),
        "device": engine.choice.device,
        "precision": engine.choice.precision,
        "engine": engine.choice.backend,
        "catalog_prior": settings.catalog_prior,
        "golden_max_difference": round(worst, 6),
        "seconds": round(time.perf_counter() - started, 2),
    }
    log.info("release loaded", extra={"fields": fields})
    release_memory()
    return Loaded(served, engine)


def _engine(model: Model, choice: EngineChoice) -> Engine:
    engine = Engine(model.listener, choice)
    engine.settle(model.window_samples)
    return engine
