"""An identifier with a real batcher, and decoding processes that are told what comes out of a file."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from app.audio.pool import DecodePool
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import AudioWarning, FloatArray, Metadata, Recording, Track, Window
from app.errors import AudioCorrupt
from app.families.contract import Model, Target
from app.families.golden import Tone
from app.families.lrid_net.model import LridNetModel
from app.serving.batcher import Batcher
from app.serving.decoding import Decoding
from app.serving.engine import Engine
from app.serving.identification import Identification
from app.serving.identifier import Identifier
from app.serving.metrics import Metrics
from app.serving.options import Options
from app.settings import Settings

Listen = Callable[[list[FloatArray]], FloatArray]

MAX_WINDOWS = 8
NOTHING = Metadata()
TITLE = Metadata(artist="Édith Piaf", title="Non, je ne regrette rien")
DIGITS = Metadata(title="1999")
SETTINGS: dict[str, Any] = {
    "listen": {"window_seconds": 3.0},
    "temperature": {"both": 2.0, "audio_only": 0.5, "text_only": 3.0},
}
TAGS = Metadata(artist="Édith Piaf", title="La vie en rose")
CUT_OFF = AudioWarning("truncated", "ends early", 9.0)


class Decoder:
    """In place of the decoding processes. The bytes say how many windows with sound the file has, `corrupt` or `slow`;
    `4+tags` is a file with tags, `4+cut` one that ends early.
    """

    def __init__(self) -> None:
        self.requests: list[WindowRequest] = []

    async def load(self, data: bytes, request: WindowRequest, limits: DecodeLimits) -> Recording:
        self.requests.append(request)
        if data == b"corrupt":
            raise AudioCorrupt("damaged")
        if data == b"slow":
            await asyncio.sleep(60)
        number, _, extra = data.partition(b"+")
        planned = min(int(number), request.max_windows)
        stop = planned if request.take is None else min(planned, request.skip + request.take)
        return Recording(
            seconds=10.0,
            windows=tuple(window(i, request) for i in range(request.skip, stop)),
            format="WAV",
            warnings=(CUT_OFF,) if extra == b"cut" else (),
            tags=(TAGS if extra == b"tags" else Metadata()) if request.read_tags else None,
            next_index=stop,
            planned=planned,
        )


def window(number: int, request: WindowRequest) -> Window:
    """A tone of 100 Hz, 200 Hz and so on."""
    spec = request.spec
    return Window(3.0 * number, 3.0, Tone(pitch_hz=100.0 * (number + 1)).samples(spec.window_samples, spec.sample_rate_hz))


@dataclass(frozen=True)
class Parts:
    """An identifier at work, and what a test looks at."""

    identifier: Identifier
    decoder: Decoder
    metrics: Metrics

    async def identify(
        self,
        audio: bytes | None,
        metadata: Metadata = NOTHING,
        *,
        further: Mapping[str, object] | None = None,
        **options: Any,
    ) -> Identification:
        """`options`: those of a request, and `seconds` until the deadline."""
        deadline = asyncio.get_running_loop().time() + options.pop("seconds", 60)
        return await self.identifier.identify(Track(audio, metadata, further or {}), Options(**options), deadline)


@asynccontextmanager
async def identifying(
    model: Model, listen: Listen | None, *, max_files: int = 4, max_wait_seconds: float = 60.0
) -> AsyncIterator[Parts]:
    """`listen` is None for a release that does not listen."""
    metrics, decoder = Metrics(), Decoder()
    batcher = None
    if model.audio is not None and listen is not None:
        settings = Settings(max_batch_size=4, queue_max_items=100, queue_max_audio_seconds=1e4)
        batcher = Batcher(listen, model.audio.window.window_samples, model.audio.listener.n_features, settings, metrics)
        batcher.start()
    limits_of_files = DecodeLimits(max_audio_seconds=1800, silence_dbfs=-60)
    decoding = Decoding(cast(DecodePool, decoder), limits_of_files, max_files, metrics)
    identifier = Identifier(model, decoding, batcher, MAX_WINDOWS, max_wait_seconds)
    try:
        yield Parts(identifier, decoder, metrics)
    finally:
        await identifier.stop()


@asynccontextmanager
async def serving(model: LridNetModel, **limits: Any) -> AsyncIterator[Parts]:
    """`limits`: see `identifying`."""
    listen = None
    if model.audio is not None:
        listen = Engine(model.audio.listener, Target("cpu", "fp32")).listen
    async with identifying(model, listen, **limits) as parts:
        yield parts


def identify(model: LridNetModel, audio: bytes | None, metadata: Metadata = NOTHING, **options: Any) -> Identification:
    async def scenario() -> Identification:
        async with serving(model) as parts:
            return await parts.identify(audio, metadata, **options)

    return asyncio.run(scenario())
