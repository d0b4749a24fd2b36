"""One request from start to end: prepare, listen until sure, identify. Only preparation raises errors of the client."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

from app.audio.spec import WindowRequest, WindowSpec
from app.domain import AUDIO, LYRICS, TEXT, Recording, Scores, Stage, Track, Window
from app.errors import ModalityNotUsed, NothingGiven, NothingUsable, QueueFull
from app.families.contract import AudioBranch, Model, TextField, read_each
from app.serving.batcher import Batcher
from app.serving.decoding import Decoding
from app.serving.identification import Identification
from app.serving.options import Options
from app.serving.retry_after import RetryAfter, Throughput
from app.serving.scheduling import yield_to_others

# Times as many windows are decoded in each further go as in the one before: reading a song's packets anew costs as much as
# decoding four windows, and a song that leaves doubt mostly leaves more.
_MORE = 3
_MOST_WAITING = 256  # rejected tracks that are expected back
_READ_AT_ONCE = 16  # tracks; the event loop does nothing else meanwhile
_READ_AFTER = 3  # turns of the event loop: the client whose answer was sent last asks again one turn after the others
_BUSY = 8  # tracks in progress, which keep decoders and device busy: so many are accepted, however slow they are


class Identifier:
    """Track → Identification. Metadata never waits for the device: a track without audio does not enter the queue."""

    def __init__(
        self, model: Model, decoding: Decoding, batcher: Batcher | None, max_windows: int, max_wait_seconds: float
    ) -> None:
        """`batcher`: None for a release that does not listen. `max_wait_seconds`: what tracks in progress may still take."""
        self.model = model
        self.batcher = batcher
        self._decoding = decoding
        self._max_windows = max_windows
        self._windows_per_track = 4.0  # smoothed; a guess until the first track. Expected of each file that is being decoded
        self._tracks = 0
        self._max_wait_seconds = max_wait_seconds
        self._throughput = Throughput()  # of tracks with audio, from their first decoding to their last window
        self._retry_after = RetryAfter(_MOST_WAITING)
        self._unread: list[Identification] = []

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
        tracks = self._throughput.in_progress
        wait_seconds = tracks * self._throughput.seconds
        if tracks >= _BUSY and wait_seconds > self._max_wait_seconds:
            raise QueueFull(
                f"{tracks} tracks are in progress, which take {wait_seconds:.1f} s more",
                retry_after_seconds=max(1.0, self.retry_after_seconds()),
            )
        self._decoding.check_room(deadline, self.retry_after_seconds)
        if self.batcher is not None:
            promised = self._decoding.throughput.in_progress * self._windows_per_track
            turn = self.retry_after_seconds  # a client that is rejected now repeats the track, not this window
            self.batcher.check_room(1, 0.0, deadline, promised=promised, turn=turn)

    def retry_after_seconds(self) -> float:
        """When to retry a track that is rejected now, by the slowest of decoders, device and both together."""
        seconds = max(self._decoding.throughput.seconds, self._throughput.seconds)
        turn = self._retry_after.take(1, seconds, asyncio.get_running_loop().time())
        return turn if self.batcher is None else max(turn, self.batcher.retry_after_seconds(self._windows_per_track))

    async def identify(
        self, track: Track, options: Options, deadline: float, stages: list[Stage] | None = None
    ) -> Identification:
        """What is done is added to `stages`, whether it succeeds or not. `deadline`: in the event loop's time.

        Raises what is wrong with the track, and QueueFull, DeadlineExceeded, ModelFailed, NotReady.
        """
        started = time.perf_counter()
        if track.audio is None and not track.metadata.fields and not track.further:
            raise NothingGiven("no audio, title, album or artist holds anything")
        if track.audio is None and not track.further and TEXT not in self.model.inputs:
            wanted = ", ".join(sorted({*self.model.inputs, *([AUDIO] if self.model.audio else [])}))
            raise ModalityNotUsed(f"title, album and artist were given; this release reads {wanted} only")
        work = Identification(self.model, track, options, deadline, [] if stages is None else stages)
        await self._read(work)
        await yield_to_others()
        if track.audio is not None:
            with work.failing("decode"):
                self.check_room(deadline)  # other requests may have arrived since the first check
            with self._throughput.piece():
                await self._listen(work, track.audio)
        if not work.mode:
            raise NothingUsable(_why_unusable(work))
        work.scores = self._combine(work)
        await yield_to_others()
        work.seconds_by_stage["total"] = time.perf_counter() - started
        if options.explain:
            features = work.features
            alone = {name: self.model.combine({name: features[name]}, frozenset({name})) for name in work.mode}
            work.alone = {name: scores.probabilities for name, scores in alone.items()}
        return work

    async def _read(self, work: Identification) -> None:
        """Read every modality that needs no device, together with requests that came meanwhile: names cost less so."""
        self._unread.append(work)
        for _ in range(_READ_AFTER):
            await yield_to_others()
        if work in self._unread:  # the first to go on reads for all
            together, self._unread = self._unread[:_READ_AT_ONCE], self._unread[_READ_AT_ONCE:]
            with contextlib.suppress(Exception):  # then each reads by itself, so that one fails alone
                self._read_all(together)
        if not work.read:
            self._read_all([work])

    def _read_all(self, several: Sequence[Identification]) -> None:
        started = time.perf_counter()
        tracks = [work.track for work in several]
        by_modality = {modality: read_each(branch, tracks) for modality, branch in self.model.inputs.items()}
        seconds = (time.perf_counter() - started) / len(several)
        for row, work in enumerate(several):
            found = {modality: readings[row] for modality, readings in by_modality.items()}
            work.read = True
            work.readings |= {modality: reading for modality, reading in found.items() if reading is not None}
            if work.readings:
                work.spend("read", "read", started, seconds)

    async def _listen(self, work: Identification, audio: bytes) -> None:
        """Decode and listen, a few windows at a time, until the answer is sure or every planned window was heard."""
        branch, batcher = self.model.audio, self.batcher
        if branch is None or batcher is None:
            request = self._with_tags(_NO_WINDOWS, work)
            if request != _NO_WINDOWS:
                self._take_tags(work, await self._decode(work, audio, request))
            return
        request = self._with_tags(self._window_request(branch, work.options), work)
        while True:
            recording = await self._decode(work, audio, request)
            self._take_tags(work, recording)
            sure = await self._listen_to(work, recording.windows, batcher, until_sure=request.take is not None)
            if sure or recording.next_index >= recording.planned:
                break
            more = None if request.take is None else request.take * _MORE
            request = replace(request, skip=recording.next_index, take=more, read_tags=False, lyrics_characters=0)
        self._tracks += 1
        self._windows_per_track += max(0.05, 1 / self._tracks) * (len(work.windows) - self._windows_per_track)

    async def _listen_to(
        self, work: Identification, windows: tuple[Window, ...], batcher: Batcher, *, until_sure: bool
    ) -> bool:
        """Listen; with `until_sure` to one at a time, however many were decoded, and True once more would hardly matter."""
        step = 1 if until_sure else max(1, len(windows))
        for first in range(0, len(windows), step):
            some = windows[first : first + step]
            with work.failing("listen"):
                found = await batcher.listen(some, work.deadline, begun=bool(work.windows))
            work.hear(some, found.features, found.queue_seconds, found.model_seconds)
            if until_sure and self._combine(work).enough:
                return True
        return False

    def _window_request(self, branch: AudioBranch, options: Options) -> WindowRequest:
        usual = branch.most_windows or self._max_windows
        most = options.windows or (self._max_windows if options.timeline else min(usual, self._max_windows))
        first = None if options.listens_to_all else branch.first_windows
        return WindowRequest(branch.window, most, take=first, whole=options.timeline)

    def _with_tags(self, request: WindowRequest, work: Identification) -> WindowRequest:
        """The same, asking for the tags that are read and were not given."""
        inputs, options = self.model.inputs, work.options
        tags = options.tags and TEXT in inputs and not work.track.metadata.fields
        wants_lyrics = options.lyrics_from_tags and LYRICS in inputs and LYRICS not in work.track.further
        lyrics = inputs[LYRICS].field if wants_lyrics else None
        most = lyrics.max_characters if isinstance(lyrics, TextField) else 0
        return replace(request, read_tags=tags, lyrics_characters=most)

    async def _decode(self, work: Identification, audio: bytes, request: WindowRequest) -> Recording:
        started = time.perf_counter()
        with work.failing("decode"):
            recording = await self._decoding.load(audio, request, work.deadline)
        work.spend("decode", "decode", started, time.perf_counter() - started)
        work.recording = recording
        work.warnings |= dict.fromkeys(recording.warnings)
        return recording

    def _take_tags(self, work: Identification, recording: Recording) -> None:
        if recording.tags is not None and recording.tags.fields:
            work.track = replace(work.track, metadata=recording.tags)
            work.from_tags.add(TEXT)
        if recording.lyrics is not None:
            work.track = replace(work.track, further={**work.track.further, LYRICS: recording.lyrics})
            work.from_tags.add(LYRICS)
        if work.from_tags and not work.windows:
            self._read_all([work])

    def _combine(self, work: Identification) -> Scores:
        started = time.perf_counter()
        scores = self.model.combine(work.features, work.mode)
        work.spend("model", "identify", started, time.perf_counter() - started)
        return scores


_NO_WINDOWS = WindowRequest(WindowSpec(16_000, 16_000), max_windows=1, take=0)  # tags, length and warnings only


def _why_unusable(work: Identification) -> str:
    audio, model = "no audio was given", work.model
    if work.track.audio is not None:
        audio = "the audio is silent" if model.audio is not None else "this release does not listen to audio"
    text = "the metadata holds no text features" if TEXT in work.readings else "no metadata was given"
    text = text if TEXT in model.inputs else "this release does not read metadata"
    further = "".join(f", and nothing in {name} is known to this release" for name in work.readings if name != TEXT)
    return f"{audio}, and {text}{further}"
