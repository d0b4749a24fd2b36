"""One request: what is used, what is not touched, how windows become one answer, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import torch

from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Identification, Metadata, Recording, Track, Window
from app.errors import AudioCorrupt, DeadlineExceeded, NothingGiven, NothingUsable, QueueFull
from app.families.golden import Tone
from app.families.lrid_net.model import LridNetModel
from app.serving.batcher import Batcher, BatchLimits, WindowShape
from app.serving.engine import Engine, EngineChoice
from app.serving.identifier import Identifier, IdentifierLimits, IdentifyOptions
from app.serving.metrics import Metrics
from tests.releases import tiny_model

TITLE = Metadata(artist="Édith Piaf", title="Non, je ne regrette rien")
DIGITS = Metadata(title="1999")
NOTHING = Metadata()


@pytest.fixture(scope="module")
def model() -> LridNetModel:
    """With a window of three seconds, and other temperatures and thresholds for every mix of modalities."""
    return tiny_model(
        listen={"window_seconds": 3.0},
        temperature={"both": 2.0, "audio_only": 0.5, "text_only": 3.0},
        thresholds={"both": 0.3, "audio_only": 0.2, "text_only": 0.1},
    )


class Decoder:
    """In place of the decoding processes: the bytes say how many windows come out."""

    def __init__(self, model: LridNetModel) -> None:
        self._model = model
        self.asked: list[WindowRequest] = []

    async def load(self, data: bytes, request: WindowRequest, limits: DecodeLimits) -> Recording:
        self.asked.append(request)
        if data == b"corrupt":
            raise AudioCorrupt("damaged")
        if data == b"slow":
            await asyncio.sleep(60)
        spec = request.spec
        windows = tuple(
            Window(3.0 * i, 3.0, Tone(pitch_hz=100.0 * (i + 1)).samples(spec.window_samples, spec.sample_rate_hz))
            for i in range(int(data))
        )
        return Recording(10.0, windows, "WAV")


@asynccontextmanager
async def identifying(model: LridNetModel, *, max_decoding: int = 4) -> AsyncIterator[Identifier]:
    metrics = Metrics()
    engine = Engine(model.listener, EngineChoice("cpu", "fp32", 1))
    limits = BatchLimits(max_batch_size=4, wait_seconds=0, max_items=100, max_audio_seconds=1e4, device_timeout_seconds=60)
    batcher = Batcher(engine.listen, WindowShape(model.window_samples, model.n_audio_features), limits, metrics)
    batcher.start()
    decode = DecodeLimits(max_audio_seconds=1800, silence_dbfs=-60)
    identifier = Identifier(model, Decoder(model), batcher, IdentifierLimits(decode, max_decoding), metrics)
    identifier.metrics = metrics
    try:
        yield identifier
    finally:
        await batcher.stop()


async def identify_with(
    identifier: Identifier, audio: bytes | None, metadata: Metadata, *, explain: bool = False, seconds: float = 60
) -> Identification:
    deadline = asyncio.get_running_loop().time() + seconds
    return await identifier.identify(Track(audio, metadata), IdentifyOptions(8, explain, deadline))


def identify(model: LridNetModel, audio: bytes | None, metadata: Metadata = NOTHING, **options: object) -> Identification:
    async def scenario() -> Identification:
        async with identifying(model) as identifier:
            return await identify_with(identifier, audio, metadata, **options)

    return asyncio.run(scenario())


def full_network(model: LridNetModel, x_audio: torch.Tensor, x_lang: np.ndarray, temperature: float) -> np.ndarray:
    """(n, 128, t) and (56,) through the whole network, as in training → (n, classes)."""
    with torch.inference_mode():
        text = torch.from_numpy(x_lang).expand(len(x_audio), -1)
        return torch.softmax(model.network(x_audio, text) / temperature, dim=1).numpy()


def zero_spectrogram(model: LridNetModel) -> torch.Tensor:
    listen = model.manifest.listen
    return torch.zeros(1, listen.mel_bands, listen.window_frames)


def spectrograms(model: LridNetModel, n: int) -> torch.Tensor:
    tones = [Tone(pitch_hz=100.0 * (i + 1)).samples(model.window_samples, model.sample_rate_hz) for i in range(n)]
    with torch.inference_mode():
        return model.listener.log_mel(torch.from_numpy(np.stack(tones)))


# --- the answer is the network's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["Non, je ne regrette rien", "사랑해", "Yesterday", "Ай-яй-яй", "La la la"])
def test_without_audio_the_answer_is_that_of_a_zero_spectrogram(model: LridNetModel, title: str) -> None:
    """1e-6 from the full pass through the trunk."""
    metadata = Metadata(title=title)
    found = identify(model, None, metadata)
    expected = full_network(model, zero_spectrogram(model), model.read(metadata).vector, temperature=3.0)
    np.testing.assert_allclose(found.probabilities.mean, expected[0], rtol=0, atol=1e-6)
    assert found.probabilities.windows.shape == (1, 11)


def test_without_audio_the_trunk_is_never_run(model: LridNetModel) -> None:
    runs = []
    hook = model.network.f.register_forward_hook(lambda *_: runs.append(1))
    try:

        async def scenario() -> None:
            async with identifying(model) as identifier:
                engine_listen = identifier.batcher._listen
                identifier.batcher._listen = lambda windows: runs.append(1) or engine_listen(windows)
                await identify_with(identifier, None, TITLE, explain=True)
                assert runs == []
                await identify_with(identifier, b"1", TITLE)
                assert runs == [1]  # the spy sees it when it is run

        asyncio.run(scenario())
    finally:
        hook.remove()


def test_audio_and_text_together(model: LridNetModel) -> None:
    found = identify(model, b"3", TITLE)
    expected = full_network(model, spectrograms(model, 3), model.read(TITLE).vector, temperature=2.0)
    np.testing.assert_allclose(found.probabilities.windows, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01  # the windows differ


def test_missing_text_is_zeros(model: LridNetModel) -> None:
    found = identify(model, b"2")
    expected = full_network(model, spectrograms(model, 2), np.zeros(56, np.float32), temperature=0.5)
    np.testing.assert_allclose(found.probabilities.windows, expected, rtol=0, atol=1e-4)


def test_text_without_features_is_fed_as_in_training(model: LridNetModel) -> None:
    """The 56th dimension is 1; the calibration is that of audio alone."""
    reading = model.read(DIGITS)
    assert reading.vector.tolist() == [0.0] * 55 + [1.0]
    found = identify(model, b"2", DIGITS)
    expected = full_network(model, spectrograms(model, 2), reading.vector, temperature=0.5)
    np.testing.assert_allclose(found.probabilities.windows, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_windows", [1, 2, 5])
def test_one_answer_is_the_mean_over_the_windows(model: LridNetModel, n_windows: int) -> None:
    """Of the probabilities, not of the logits."""
    found = identify(model, b"%d" % n_windows, TITLE).probabilities
    assert found.windows.shape == (n_windows, 11)
    np.testing.assert_allclose(found.windows.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.mean, found.windows.mean(axis=0), rtol=0, atol=1e-7)
    alone = full_network(model, spectrograms(model, n_windows), model.read(TITLE).vector, temperature=2.0)
    np.testing.assert_allclose(found.mean, alone.mean(axis=0), rtol=0, atol=1e-4)


def test_explaining(model: LridNetModel) -> None:
    found = identify(model, b"2", TITLE, explain=True)
    np.testing.assert_array_equal(found.audio_only, identify(model, b"2").probabilities.mean)
    np.testing.assert_array_equal(found.text_only, identify(model, None, TITLE).probabilities.mean)
    assert identify(model, b"2", TITLE).audio_only is None
    assert identify(model, b"2", DIGITS, explain=True).text_only is None


# --- what was used ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "metadata", "reasons", "threshold"),
    [
        (b"1", TITLE, (None, None), 0.3),
        (b"1", Metadata(), (None, "not_given"), 0.2),
        (b"1", Metadata(title="  "), (None, "not_given"), 0.2),
        (b"1", DIGITS, (None, "no_text_features"), 0.2),
        (b"0", TITLE, ("silent", None), 0.1),
        (None, TITLE, ("not_given", None), 0.1),
    ],
)
def test_modalities(model: LridNetModel, audio: bytes | None, metadata: Metadata, reasons: tuple, threshold: float) -> None:
    found = identify(model, audio, metadata)
    assert (found.audio.reason, found.text.reason) == reasons
    assert (found.audio.used, found.text.used) == tuple(reason is None for reason in reasons)
    assert found.threshold == threshold
    stages = {"total", "model"}
    stages |= {"read"} if metadata.fields else set()
    stages |= {"decode"} if audio is not None else set()
    stages |= {"queue"} if audio == b"1" else set()
    assert set(found.seconds_by_stage) == stages
    assert all(seconds >= 0 for seconds in found.seconds_by_stage.values())


def test_the_decoder_is_told_what_the_release_listens_to(model: LridNetModel) -> None:
    async def scenario() -> None:
        async with identifying(model) as identifier:
            await identify_with(identifier, b"1", TITLE)
            assert identifier._pool.asked == [WindowRequest(WindowSpec(22_050, 66_150), 8)]

    asyncio.run(scenario())


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "metadata", "error", "detail"),
    [
        (None, Metadata(), NothingGiven, "holds anything"),
        (None, Metadata(title=" \n"), NothingGiven, "holds anything"),
        (None, DIGITS, NothingUsable, "no audio was given, and the metadata holds no text features"),
        (b"0", Metadata(), NothingUsable, "the audio is silent, and no metadata was given"),
        (b"0", DIGITS, NothingUsable, "the audio is silent, and the metadata holds no text features"),
        (b"corrupt", TITLE, AudioCorrupt, "damaged"),
    ],
)
def test_refused(model: LridNetModel, audio: bytes | None, metadata: Metadata, error: type[Exception], detail: str) -> None:
    with pytest.raises(error, match=detail):
        identify(model, audio, metadata)


def test_deadline_while_decoding(model: LridNetModel) -> None:
    async def scenario() -> None:
        async with identifying(model) as identifier:
            with pytest.raises(DeadlineExceeded, match="decoded"):
                await identify_with(identifier, b"slow", TITLE, seconds=0.1)
            assert identifier.metrics.registry.get_sample_value("lrid_decoding_requests") == 0

    asyncio.run(scenario())


def test_files_in_decoding_are_bounded_and_the_place_is_given_back(model: LridNetModel) -> None:
    async def scenario() -> None:
        async with identifying(model, max_decoding=2) as identifier:
            slow = [asyncio.create_task(identify_with(identifier, b"slow", TITLE)) for _ in range(2)]
            await asyncio.sleep(0.05)
            deadline = asyncio.get_running_loop().time() + 60
            with pytest.raises(QueueFull, match="2 files wait for a decoder") as refused:
                identifier.check_room(deadline)
            assert refused.value.retry_after_seconds >= 1
            assert (await identify_with(identifier, None, TITLE)).text.used  # metadata passes by
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            identifier.check_room(deadline)
            assert (await identify_with(identifier, b"1", TITLE)).audio.used

    asyncio.run(scenario())


# --- requests that come together ------------------------------------------------------------------------------------


def test_those_that_came_together_go_in_step_and_answers_do_not_change(
    model: LridNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are read, then all are identified: what each step needs is fetched into the processor's caches once."""
    steps: list[str] = []
    songs = [TITLE, DIGITS, Metadata(title="사랑해"), TITLE]
    alone = [identify(model, b"1" if song is DIGITS else None, song) for song in songs]
    for step in ("read", "identify"):
        plain = getattr(model, step)
        monkeypatch.setattr(model, step, lambda *given, _plain=plain, _step=step: steps.append(_step) or _plain(*given))

    async def scenario() -> list[Identification]:
        async with identifying(model) as identifier:
            return await asyncio.gather(
                *(identify_with(identifier, b"1" if song is DIGITS else None, song) for song in songs)
            )

    together = asyncio.run(scenario())
    assert steps[:4] == ["read"] * 4
    assert steps[4:] == ["identify"] * 4
    for one, other in zip(alone, together, strict=True):
        assert one.probabilities.mean.tolist() == other.probabilities.mean.tolist()
