"""One request from start to end: prepare, listen until sure, identify. Only preparation raises errors of the client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from app.audio.spec import WindowRequest, WindowSpec
from app.domain import (
    AUDIO,
    TEXT,
    AudioWarning,
    FloatArray,
    Heard,
    Identification,
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
from app.errors import ModalityNotUsed, NothingGiven, NothingUsable
from app.families.contract import AudioBranch, Model
from app.serving.batcher import Batcher
from app.serving.decoding import Decoding
from app.serving.scheduling import yield_to_others

# Times as many windows are decoded in each further go as in the one before: reading a song's packets anew costs as much as
# decoding four windows, and a song that leaves doubt mostly leaves more.
_MORE = 3


@dataclass(frozen=True, slots=True)
class IdentifyOptions:
    """How to identify one track."""

    deadline: float  # loop.time()
    max_windows: int | None = None  # listen to so many, and do not stop before; None: until sure
    whole: bool = False  # listen to the whole track in order of time, for a timeline
    explain: bool = False
    read_tags: bool = True  # of the file, when no metadata is given
    stages: list[Stage] = field(default_factory=list)  # what is done is added here, whether it succeeds or not

    @property
    def listens_to_all(self) -> bool:
        """Listen to every planned window, even if the first ones are sure."""
        return self.whole or self.max_windows is not None


class Identifier:
    """Track → Identification. Metadata never waits for the device: a track without audio does not enter the queue."""

    def __init__(self, model: Model, decoding: Decoding, batcher: Batcher | None, max_windows: int) -> None:
        """`batcher` is None for a release that does not listen. `max_windows` per track, whatever the client requests."""
        self.model = model
        self.batcher = batcher
        self._decoding = decoding
        self._max_windows = max_windows
        self._windows_per_track = 4.0  # smoothed; a guess until the first track. Expected of each file that is being decoded
        self._tracks = 0

    @property
    def healthy(self) -> bool:
        """Whether the device works; True for a release that does not listen."""
        return self.batcher is None or self.batcher.healthy

    async def stop(self) -> None:
        """Reject requests that still wait for the device."""
        if self.batcher is not None:
            await self.batcher.stop()

    def check_room(self, deadline: float) -> None:
        """Called before the audio of a request is received, and again after it. Raises QueueFull."""
        self._decoding.check_room(deadline, self.retry_after_seconds)
        if self.batcher is not None:
            self.batcher.check_room(1, 0.0, deadline, promised=self._decoding.files * self._windows_per_track)

    def retry_after_seconds(self) -> float:
        """When to retry a track that is rejected now, by the slower of decoders and device."""
        turn = self._decoding.turn_seconds()
        return turn if self.batcher is None else max(turn, self.batcher.retry_after_seconds(self._windows_per_track))

    async def identify(self, track: Track, options: IdentifyOptions) -> Identification:
        """Raises NothingGiven, ModalityNotUsed, NothingUsable, AudioError, QueueFull, DeadlineExceeded, ModelFailed,
        NotReady.
        """
        started = time.perf_counter()
        if track.audio is None and not track.metadata.fields and not track.further:
            raise NothingGiven("no audio, title, album or artist holds anything")
        if track.audio is None and not track.further and TEXT not in self.model.inputs:
            raise ModalityNotUsed(f"title, album and artist were given; this release reads {_wanted(self.model)} only")
        work = _Work(track, options)
        await yield_to_others()
        self._read(work)
        await yield_to_others()
        if track.audio is not None:
            await self._listen(work, track.audio)
        if not work.informative:
            raise NothingUsable(_why_unusable(work, self.model))
        scores = self._combine(work)
        await yield_to_others()
        work.seconds["total"] = time.perf_counter() - started
        return work.identified(scores, self._explained(work), self.model)

    def _read(self, work: _Work) -> None:
        """Read every modality that needs no device."""
        started = time.perf_counter()
        for modality, branch in self.model.inputs.items():
            reading = branch.read(work.track)
            if reading is not None:
                work.readings[modality] = reading
        if work.readings:
            work.spend("read", "read", started, time.perf_counter() - started)

    async def _listen(self, work: _Work, audio: bytes) -> None:
        """Decode and listen, a few windows at a time, until the answer is sure or every planned window was heard."""
        branch, batcher = self.model.audio, self.batcher
        wants_tags = work.options.read_tags and not work.track.metadata.fields and TEXT in self.model.inputs
        if branch is None or batcher is None:
            if wants_tags:
                self._take_tags(work, await self._decode(work, audio, _no_windows()))
            return
        request = self._window_request(branch, work.options, wants_tags)
        while True:
            recording = await self._decode(work, audio, request)
            self._take_tags(work, recording)
            sure = await self._listen_to(work, recording.windows, batcher, until_sure=request.take is not None)
            if sure or recording.next_index >= recording.planned:
                break
            more = None if request.take is None else request.take * _MORE
            request = replace(request, skip=recording.next_index, take=more, read_tags=False)
        self._tracks += 1
        self._windows_per_track += max(0.05, 1 / self._tracks) * (len(work.windows) - self._windows_per_track)

    async def _listen_to(self, work: _Work, windows: tuple[Window, ...], batcher: Batcher, *, until_sure: bool) -> bool:
        """Listen to these windows; with `until_sure` one at a time, and True once further ones would hardly matter.

        One at a time, so that the answer does not depend on how many were decoded together.
        """
        step = 1 if until_sure else max(1, len(windows))
        for first in range(0, len(windows), step):
            some = windows[first : first + step]
            with work.failing("listen"):
                found = await batcher.listen(some, work.options.deadline)
            work.hear(some, found.features, found.queue_seconds, found.model_seconds)
            if until_sure and self._combine(work).enough:
                return True
        return False

    def _window_request(self, branch: AudioBranch, options: IdentifyOptions, read_tags: bool) -> WindowRequest:
        usual = branch.most_windows or self._max_windows
        most = options.max_windows or (self._max_windows if options.whole else min(usual, self._max_windows))
        first = None if options.listens_to_all else branch.first_windows
        return WindowRequest(branch.window, most, take=first, whole=options.whole, read_tags=read_tags)

    async def _decode(self, work: _Work, audio: bytes, request: WindowRequest) -> Recording:
        started = time.perf_counter()
        with work.failing("decode"):
            if not work.windows:
                self.check_room(work.options.deadline)  # other requests may have arrived since the first check
            recording = await self._decoding.load(audio, request, work.options.deadline)
        work.spend("decode", "decode", started, time.perf_counter() - started)
        work.recording = recording
        work.warnings |= dict.fromkeys(recording.warnings)
        return recording

    def _take_tags(self, work: _Work, recording: Recording) -> None:
        if recording.tags is not None and recording.tags.fields:
            work.track = replace(work.track, metadata=recording.tags)
            work.text_source = "tags"
            self._read(work)

    def _combine(self, work: _Work) -> Scores:
        started = time.perf_counter()
        scores = self.model.combine(work.features, work.mode)
        work.spend("model", "identify", started, time.perf_counter() - started)
        return scores

    def _explained(self, work: _Work) -> Mapping[str, FloatArray]:
        if not work.options.explain:
            return {}
        features = work.features
        return {
            modality: self.model.combine({modality: features[modality]}, frozenset({modality})).probabilities
            for modality in work.mode
        }


def _no_windows() -> WindowRequest:
    """Tags, length and warnings only."""
    return WindowRequest(WindowSpec(16_000, 16_000), max_windows=1, take=0, read_tags=True)


@dataclass(slots=True)
class _Work:
    """Everything known about one track so far."""

    track: Track
    options: IdentifyOptions
    readings: dict[str, Reading] = field(default_factory=dict)
    recording: Recording | None = None
    windows: list[Window] = field(default_factory=list)
    rows: list[FloatArray] = field(default_factory=list)  # features, (n, n_features) each
    warnings: dict[AudioWarning, None] = field(default_factory=dict)
    text_source: Literal["request", "tags"] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def hear(self, windows: tuple[Window, ...], features: FloatArray, queue_seconds: float, model_seconds: float) -> None:
        self.windows.extend(windows)
        self.rows.append(features)
        listened = time.perf_counter() - model_seconds
        self.spend("queue", "queue", listened - queue_seconds, queue_seconds)
        self.spend("model", "listen", listened, model_seconds)

    def spend(self, stage: str, name: str, started: float, seconds: float) -> None:
        """Count towards `stage` what was done under `name`."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.options.stages.append(Stage(name, started, seconds))

    @contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """Adds to the trace only what fails."""
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            self.options.stages.append(Stage(name, started, time.perf_counter() - started, failed=True))
            raise

    @property
    def features(self) -> dict[str, FloatArray]:
        """By modality, as `Model.combine` wants them."""
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
    def informative(self) -> bool:
        return bool(self.mode)

    def identified(self, scores: Scores, alone: Mapping[str, FloatArray], model: Model) -> Identification:
        has_text = bool(self.track.metadata.fields)
        return Identification(
            scores=scores,
            mode=self.mode,
            alone=alone,
            modalities={name: self._use(name, model) for name in dict.fromkeys((AUDIO, TEXT, *model.inputs))},
            heard=self._heard(),
            metadata=self.track.metadata,
            text_source=(self.text_source or "request") if has_text else None,
            seconds_by_stage=self.seconds,
        )

    def _heard(self) -> Heard | None:
        if self.recording is None:
            return None
        spans = tuple(Span(window.start_seconds, window.start_seconds + window.seconds) for window in self.windows)
        return Heard(self.recording.seconds, spans, tuple(self.warnings))

    def _use(self, name: str, model: Model) -> ModalityUse:
        if name == AUDIO:
            return self._audio_use(model)
        if name == TEXT and TEXT not in model.inputs and self.track.metadata.fields:
            return ModalityUse(False, "not_trusted")
        return self._input_use(name)

    def _audio_use(self, model: Model) -> ModalityUse:
        if self.track.audio is None:
            return ModalityUse(False, "not_given")
        if model.audio is None:
            return ModalityUse(False, "not_trusted")
        return ModalityUse(True) if self.rows else ModalityUse(False, "silent")

    def _input_use(self, modality: str) -> ModalityUse:
        reading = self.readings.get(modality)
        if reading is None:
            return ModalityUse(False, "not_given")
        return ModalityUse(True) if reading.informative else ModalityUse(False, "no_text_features")


def _why_unusable(work: _Work, model: Model) -> str:
    audio = "no audio was given"
    if work.track.audio is not None:
        audio = "the audio is silent" if model.audio is not None else "this release does not listen to audio"
    text = "the metadata holds no text features" if TEXT in work.readings else "no metadata was given"
    text = text if TEXT in model.inputs else "this release does not read metadata"
    return f"{audio}, and {text}"


def _wanted(model: Model) -> str:
    return ", ".join(sorted({*model.inputs, *([AUDIO] if model.audio else [])}))
