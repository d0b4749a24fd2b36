"""The state of one request: what is known of its track so far."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from app.domain import (
    AUDIO,
    TEXT,
    AudioWarning,
    FloatArray,
    ModalityUse,
    Mode,
    Reading,
    Recording,
    Scores,
    Span,
    Stage,
    Track,
    Window,
)
from app.families.contract import Model
from app.serving.options import Options


@dataclass(slots=True, eq=False)
class Identification:
    """Everything known about one track: filled step by step, then put into JSON."""

    model: Model
    track: Track  # with what was read from the file's tags
    options: Options
    deadline: float  # loop.time()
    stages: list[Stage] = field(default_factory=list)  # what is done is added here, whether it succeeds or not
    readings: dict[str, Reading] = field(default_factory=dict)
    read: bool = False  # what was given, if anything
    recording: Recording | None = None
    windows: list[Span] = field(default_factory=list)  # in the order of listening, as the rows of `Scores.windows`
    rows: list[FloatArray] = field(default_factory=list)  # features, (n, n_features) each
    warnings: dict[AudioWarning, None] = field(default_factory=dict)
    from_tags: set[str] = field(default_factory=set)  # modalities
    seconds_by_stage: dict[str, float] = field(default_factory=dict)  # decode, read, queue, model, total
    scores: Scores = field(init=False)
    alone: dict[str, FloatArray] = field(default_factory=dict)  # (n_classes,) by modality, for an explanation

    def hear(self, windows: tuple[Window, ...], features: FloatArray, queue_seconds: float, model_seconds: float) -> None:
        self.windows.extend([Span(window.start_seconds, window.start_seconds + window.seconds) for window in windows])
        self.rows.append(features)
        listened = time.perf_counter() - model_seconds
        self.spend("queue", "queue", listened - queue_seconds, queue_seconds)
        self.spend("model", "listen", listened, model_seconds)

    def spend(self, stage: str, name: str, started: float, seconds: float) -> None:
        """Count towards `stage` what was done under `name`."""
        self.seconds_by_stage[stage] = self.seconds_by_stage.get(stage, 0.0) + seconds
        self.stages.append(Stage(name, started, seconds))

    @contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """Adds to the trace only what fails."""
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            self.stages.append(Stage(name, started, time.perf_counter() - started, failed=True))
            raise

    @property
    def features(self) -> dict[str, FloatArray]:
        """Features by modality, as `Model.combine` takes them."""
        found = {modality: reading.vector for modality, reading in self.readings.items()}
        if self.rows:
            found[AUDIO] = self.rows[0] if len(self.rows) == 1 else np.concatenate(self.rows)
        return found

    @property
    def mode(self) -> Mode:
        """The modalities with information."""
        informative = {modality for modality, reading in self.readings.items() if reading.informative}
        return frozenset(informative | {AUDIO} if self.rows else informative)

    @property
    def modalities(self) -> dict[str, ModalityUse]:
        return {name: self._use(name) for name in dict.fromkeys((AUDIO, TEXT, *self.model.inputs))}

    def _use(self, name: str) -> ModalityUse:
        if name == AUDIO and self.track.audio is not None:
            used = bool(self.rows)
            return ModalityUse(used, None if used else "not_trusted" if self.model.audio is None else "silent")
        if name == TEXT and TEXT not in self.model.inputs and self.track.metadata.fields:
            return ModalityUse(False, "not_trusted")
        if (reading := self.readings.get(name)) is None:
            return ModalityUse(False, "not_given")
        return ModalityUse(reading.informative, None if reading.informative else "no_text_features", self.source(name))

    def source(self, modality: str) -> Literal["request", "tags"]:
        return "tags" if modality in self.from_tags else "request"
