"""One request on one screen: prepare, listen, identify. Only preparing may blame the client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from app.audio.pool import DecodePool
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import FloatArray, Identification, Modality, Probabilities, Reading, Recording, Track
from app.errors import AudioError, DeadlineExceeded, NothingGiven, NothingUsable, QueueFull
from app.families.contract import Model, mode_of
from app.serving.batcher import Batcher, WindowFeatures
from app.serving.metrics import Metrics
from app.serving.retry_after import RetryAfter, Throughput
from app.serving.scheduling import yield_to_others


@dataclass(frozen=True, slots=True)
class IdentifyOptions:
    """How one track shall be identified."""

    max_windows: int
    explain: bool
    deadline: float  # loop.time()


@dataclass(frozen=True, slots=True)
class IdentifierLimits:
    decode: DecodeLimits
    max_decoding: int  # files being decoded or waiting for a decoder


class Identifier:
    """Track → Identification. Metadata never waits for the device: a track without audio does not enter the queue."""

    def __init__(self, model: Model, pool: DecodePool, batcher: Batcher, limits: IdentifierLimits, metrics: Metrics) -> None:
        self.model = model
        self.batcher = batcher
        self._pool = pool
        self._limits = limits
        self._metrics = metrics
        self._decoding = 0
        self.leases = 0  # requests that may still use this identifier
        self.returned = asyncio.Event()  # set whenever a lease ends
        self._windows_per_track = 4.0  # smoothed: what a file in decoding will add to the queue; a guess until one has
        self._tracks = 0
        self._decode_throughput = Throughput()
        self._decode_retry_after = RetryAfter(4 * limits.max_decoding)

    def check_room(self, deadline: float) -> None:
        """At the door, before the audio of a request is read, and again when it has been. Raises QueueFull."""
        decoded_at = asyncio.get_running_loop().time() + self._decoding * self._decode_throughput.seconds
        if self._decoding >= self._limits.max_decoding or (self._decoding and decoded_at > deadline):
            raise QueueFull(
                f"{self._decoding} files wait for a decoder: as many as may, or too many for the deadline",
                retry_after_seconds=self.retry_after_seconds(),
            )
        self.batcher.check_room(1, 0.0, deadline, promised=self._decoding * self._windows_per_track)

    def retry_after_seconds(self) -> float:
        """For a track that is refused now: when its own turn comes, by the slower of decoders and device."""
        turn = self._decode_retry_after.take(1, self._decode_throughput.seconds, asyncio.get_running_loop().time())
        return max(turn, self.batcher.retry_after_seconds(self._windows_per_track))

    async def identify(self, track: Track, options: IdentifyOptions) -> Identification:
        """Raises NothingGiven, NothingUsable, AudioError, QueueFull, DeadlineExceeded, ModelFailed, NotReady."""
        started = time.perf_counter()
        seconds: dict[str, float] = {}
        if track.audio is None and not track.metadata.fields:
            raise NothingGiven("no audio, title, album or artist holds anything")
        await yield_to_others()
        reading = self._read(track, seconds)
        await yield_to_others()
        recording = await self._decode(track.audio, options, seconds) if track.audio is not None else None
        heard = await self._listen(recording, options, seconds)
        features = None if heard is None else heard.features
        if features is None and (reading is None or not reading.informative):
            raise NothingUsable(_why_unusable(recording, reading))
        answer = self._identify(features, reading, options, seconds)
        await yield_to_others()
        seconds["total"] = time.perf_counter() - started
        mode, thresholds = mode_of(features is not None, reading), self.model.manifest.thresholds
        return Identification(
            probabilities=answer.both,
            audio_only=answer.audio_only,
            text_only=answer.text_only,
            audio=_audio_modality(track, recording),
            text=_text_modality(reading),
            recording=recording,
            threshold=getattr(thresholds, mode),
            seconds_by_stage=seconds,
            language_thresholds=thresholds.of_languages(mode),
        )

    def _read(self, track: Track, seconds: dict[str, float]) -> Reading | None:
        if not track.metadata.fields:
            return None
        started = time.perf_counter()
        reading = self.model.read(track.metadata)
        seconds["read"] = time.perf_counter() - started
        return reading

    async def _decode(self, audio: bytes, options: IdentifyOptions, seconds: dict[str, float]) -> Recording:
        spec = WindowSpec(self.model.sample_rate_hz, self.model.window_samples)
        request = WindowRequest(spec, options.max_windows)
        started = time.perf_counter()
        self.check_room(options.deadline)  # many may have come through the door at once, and met here
        self._count_decoding(+1)
        try:
            async with asyncio.timeout_at(options.deadline):
                recording = await self._pool.load(audio, request, self._limits.decode)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the audio was being decoded") from None
        except AudioError as error:
            self._metrics.decode_failures.labels(error.code).inc()
            raise
        finally:
            self._count_decoding(-1)
        seconds["decode"] = time.perf_counter() - started
        self._tracks += 1
        self._windows_per_track += max(0.05, 1 / self._tracks) * (len(recording.windows) - self._windows_per_track)
        return recording

    def _count_decoding(self, change: int) -> None:
        now = asyncio.get_running_loop().time()
        if change < 0:
            self._decode_throughput.done(now)
        elif not self._decoding:
            self._decode_throughput.begin(now)
        self._decoding += change
        self._metrics.decoding.set(self._decoding)

    async def _listen(
        self, recording: Recording | None, options: IdentifyOptions, seconds: dict[str, float]
    ) -> WindowFeatures | None:
        if recording is None or not recording.windows:
            return None
        heard = await self.batcher.listen(recording.windows, options.deadline)
        seconds["queue"] = heard.queue_seconds
        seconds["model"] = heard.model_seconds
        return heard

    def _identify(
        self, features: FloatArray | None, reading: Reading | None, options: IdentifyOptions, seconds: dict[str, float]
    ) -> _Answer:
        started = time.perf_counter()
        both = self.model.identify(features, reading)
        audio_only = text_only = None
        if options.explain and features is not None:
            audio_only = self.model.identify(features, None).mean
        if options.explain and reading is not None and reading.informative:
            text_only = self.model.identify(None, reading).mean
        seconds["model"] = seconds.get("model", 0.0) + time.perf_counter() - started
        return _Answer(both, audio_only, text_only)


@dataclass(frozen=True, slots=True)
class _Answer:
    both: Probabilities
    audio_only: FloatArray | None
    text_only: FloatArray | None


def _audio_modality(track: Track, recording: Recording | None) -> Modality:
    if track.audio is None or recording is None:
        return Modality(False, "not_given")
    return Modality(True) if recording.windows else Modality(False, "silent")


def _text_modality(reading: Reading | None) -> Modality:
    if reading is None:
        return Modality(False, "not_given")
    return Modality(True) if reading.informative else Modality(False, "no_text_features")


def _why_unusable(recording: Recording | None, reading: Reading | None) -> str:
    audio = "the audio is silent" if recording is not None else "no audio was given"
    text = "the metadata holds no text features" if reading is not None else "no metadata was given"
    return f"{audio}, and {text}"
