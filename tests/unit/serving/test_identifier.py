"""One request: what is used, what is not touched, how windows become one answer, and what is refused."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from app.audio.spec import WindowRequest, WindowSpec
from app.domain import AUDIO, TEXT, FloatArray, Metadata, Reading, Track
from app.errors import AudioCorrupt, DeadlineExceeded, NothingGiven, NothingUsable, QueueFull
from app.families.contract import Target
from app.families.golden import Tone
from app.families.lrid_net.model import LridNetModel
from app.families.lrid_net.network import LogMel
from app.families.lrid_net.read import LangdetectReader
from app.serving.engine import Engine
from app.serving.identification import Identification
from tests.releases import tiny_model
from tests.unit.serving.identifying import DIGITS, MAX_WINDOWS, NOTHING, SETTINGS, TITLE, identify, identifying, serving


@pytest.fixture(scope="module")
def model() -> LridNetModel:
    """With a window of three seconds, and another temperature for every mix of modalities."""
    return tiny_model(**SETTINGS)


def reading_of(model: LridNetModel, metadata: Metadata) -> FloatArray:
    reading = model.inputs[TEXT].read(Track(None, metadata))
    assert reading is not None
    return reading.vector


def full_network(model: LridNetModel, x_audio: torch.Tensor, x_lang: FloatArray, temperature: float) -> FloatArray:
    """(n, 128, t) and (56,) through the whole network, as in training → (n, classes)."""
    with torch.inference_mode():
        text = torch.from_numpy(x_lang).expand(len(x_audio), -1)
        return torch.softmax(model.network(x_audio, text) / temperature, dim=1).numpy()


def zero_spectrogram(model: LridNetModel) -> torch.Tensor:
    listen = model.manifest.listen
    return torch.zeros(1, listen.mel_bands, listen.window_frames)


def spectrograms(model: LridNetModel, n: int) -> torch.Tensor:
    assert model.audio is not None
    spec = model.audio.window
    tones = [Tone(pitch_hz=100.0 * (i + 1)).samples(spec.window_samples, spec.sample_rate_hz) for i in range(n)]
    with torch.inference_mode():
        return LogMel(model.manifest.listen)(torch.from_numpy(np.stack(tones)))


# --- the answer is the network's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["Non, je ne regrette rien", "사랑해", "Yesterday", "Ай-яй-яй", "La la la"])
def test_without_audio_the_answer_is_that_of_a_zero_spectrogram(model: LridNetModel, title: str) -> None:
    """1e-6 from the full pass through the trunk."""
    metadata = Metadata(title=title)
    found = identify(model, None, metadata).scores
    expected = full_network(model, zero_spectrogram(model), reading_of(model, metadata), temperature=3.0)
    np.testing.assert_allclose(found.probabilities, expected[0], rtol=0, atol=1e-6)
    assert found.windows.shape == (0, 11)


def test_metadata_never_waits_for_the_device(model: LridNetModel) -> None:
    """Neither the listener nor the network's trunk runs for a track without audio."""
    runs: list[int] = []
    assert model.audio is not None
    engine = Engine(model.audio.listener, Target("cpu", "fp32"))
    hook = model.network.f.register_forward_hook(lambda *_: runs.append(1))  # the engine has a copy without it

    def listen(windows: list[FloatArray]) -> FloatArray:
        runs.append(1)
        return engine.listen(windows)

    async def scenario() -> None:
        async with identifying(model, listen) as parts:
            await parts.identify(None, TITLE, explain=True)
            assert runs == []
            await parts.identify(b"1", TITLE)
            assert runs == [1]  # the spy sees it when it is run

    try:
        asyncio.run(scenario())
    finally:
        hook.remove()


def test_missing_text_is_zeros(model: LridNetModel) -> None:
    found = identify(model, b"2").scores
    expected = full_network(model, spectrograms(model, 2), np.zeros(56, np.float32), temperature=0.5)
    np.testing.assert_allclose(found.windows, expected, rtol=0, atol=1e-4)


def test_text_without_features_is_fed_as_in_training(model: LridNetModel) -> None:
    """The 56th dimension is 1; the calibration is that of audio alone."""
    vector = reading_of(model, DIGITS)
    assert vector.tolist() == [0.0] * 55 + [1.0]
    found = identify(model, b"2", DIGITS)
    expected = full_network(model, spectrograms(model, 2), vector, temperature=0.5)
    np.testing.assert_allclose(found.scores.windows, expected, rtol=0, atol=1e-4)
    assert found.mode == {AUDIO}


@pytest.mark.parametrize("n_windows", [1, 2, 5])
def test_one_answer_is_the_mean_over_the_windows(model: LridNetModel, n_windows: int) -> None:
    """Of the probabilities, not of the logits."""
    found = identify(model, b"%d" % n_windows, TITLE).scores
    assert found.windows.shape == (n_windows, 11)
    np.testing.assert_allclose(found.windows.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, found.windows.mean(axis=0), rtol=0, atol=1e-7)
    alone = full_network(model, spectrograms(model, n_windows), reading_of(model, TITLE), temperature=2.0)
    np.testing.assert_allclose(found.probabilities, alone.mean(axis=0), rtol=0, atol=1e-4)


def test_explaining(model: LridNetModel) -> None:
    alone = identify(model, b"2", TITLE, explain=True).alone
    assert set(alone) == {AUDIO, TEXT}
    np.testing.assert_array_equal(alone[AUDIO], identify(model, b"2").scores.probabilities)
    np.testing.assert_array_equal(alone[TEXT], identify(model, None, TITLE).scores.probabilities)
    assert identify(model, b"2", TITLE).alone == {}
    assert set(identify(model, b"2", DIGITS, explain=True).alone) == {AUDIO}


# --- what was used ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "metadata", "reasons"),
    [
        (b"1", TITLE, (None, None)),
        (b"1", Metadata(), (None, "not_given")),
        (b"1", Metadata(title="  "), (None, "not_given")),
        (b"1", DIGITS, (None, "no_text_features")),
        (b"0", TITLE, ("silent", None)),
        (None, TITLE, ("not_given", None)),
    ],
)
def test_modalities(model: LridNetModel, audio: bytes | None, metadata: Metadata, reasons: tuple[str | None, ...]) -> None:
    found = identify(model, audio, metadata)
    uses = (found.modalities[AUDIO], found.modalities[TEXT])
    assert tuple(use.reason for use in uses) == reasons
    assert tuple(use.used for use in uses) == tuple(reason is None for reason in reasons)
    assert found.mode == {name for name, use in found.modalities.items() if use.used}
    assert bool(found.track.metadata.fields) == bool(metadata.fields)
    assert found.source(TEXT) == "request"
    stages = {"total", "model"}
    stages |= {"read"} if metadata.fields else set()
    stages |= {"decode"} if audio is not None else set()
    stages |= {"queue"} if audio == b"1" else set()
    assert set(found.seconds_by_stage) == stages
    assert all(seconds >= 0 for seconds in found.seconds_by_stage.values())


def test_the_windows_asked_for_are_those_the_release_listens_to(model: LridNetModel) -> None:
    async def scenario() -> None:
        async with serving(model) as parts:
            await parts.identify(b"1", TITLE)
            await parts.identify(b"1", NOTHING)
            spec = WindowSpec(22_050, 66_150)
            assert parts.decoder.requests == [
                WindowRequest(spec, MAX_WINDOWS),
                WindowRequest(spec, MAX_WINDOWS, read_tags=True),
            ]

    asyncio.run(scenario())


def test_warnings_of_the_decoder_are_kept_once(model: LridNetModel) -> None:
    heard = identify(model, b"3+cut")
    assert [warning.code for warning in heard.warnings] == ["truncated"]
    assert [span.start_seconds for span in heard.windows] == [0.0, 3.0, 6.0]


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
        async with serving(model) as parts:
            with pytest.raises(DeadlineExceeded, match="decoded"):
                await parts.identify(b"slow", TITLE, seconds=0.1)
            assert parts.metrics.registry.get_sample_value("lrid_decoding_requests") == 0

    asyncio.run(scenario())


def test_a_track_that_would_wait_too_long_is_rejected_until_others_are_done(model: LridNetModel) -> None:
    async def scenario() -> None:
        async with serving(model, max_files=20, max_wait_seconds=1e-9) as parts:
            deadline = asyncio.get_running_loop().time() + 60
            await parts.identify(b"1", TITLE)  # now the rate is known
            slow = [asyncio.create_task(parts.identify(b"slow", TITLE)) for _ in range(8)]
            await asyncio.sleep(0.05)
            with pytest.raises(QueueFull, match="8 tracks are in progress") as refused:
                parts.identifier.check_room(deadline)
            assert (refused.value.retry_after_seconds or 0) >= 1
            slow[0].cancel()
            await asyncio.wait(slow[:1])
            parts.identifier.check_room(deadline)  # seven are few
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    asyncio.run(scenario())


def test_a_track_that_the_device_has_no_time_for_is_told_to_wait_for_all_its_windows(model: LridNetModel) -> None:
    async def scenario() -> None:
        async with serving(model) as parts:
            assert parts.identifier.batcher is not None
            parts.identifier.batcher.seconds_per_window = 10.0
            slow = asyncio.create_task(parts.identify(b"slow", TITLE))
            await asyncio.sleep(0.05)
            with pytest.raises(QueueFull, match="past its deadline") as refused:
                parts.identifier.check_room(asyncio.get_running_loop().time() + 45)
            assert refused.value.retry_after_seconds == pytest.approx(50)  # four windows, at .8 of the rate
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)

    asyncio.run(scenario())


def test_files_in_decoding_are_bounded_and_the_place_is_given_back(model: LridNetModel) -> None:
    async def scenario() -> None:
        async with serving(model, max_files=2) as parts:
            slow = [asyncio.create_task(parts.identify(b"slow", TITLE)) for _ in range(2)]
            await asyncio.sleep(0.05)
            deadline = asyncio.get_running_loop().time() + 60
            with pytest.raises(QueueFull, match="2 files wait for a decoder") as refused:
                parts.identifier.check_room(deadline)
            assert refused.value.retry_after_seconds is not None
            assert refused.value.retry_after_seconds >= 1
            assert (await parts.identify(None, TITLE)).modalities[TEXT].used  # metadata passes by
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            parts.identifier.check_room(deadline)
            assert (await parts.identify(b"1", TITLE)).modalities[AUDIO].used

    asyncio.run(scenario())


# --- requests that come together ------------------------------------------------------------------------------------


def test_requests_that_came_together_share_each_step_and_answers_do_not_change(
    model: LridNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are read, then all are combined: what each step needs is fetched into the processor's caches once."""
    steps: list[str] = []
    songs = [TITLE, DIGITS, Metadata(title="사랑해"), TITLE]
    audio = [b"1" if song is DIGITS else None for song in songs]
    alone = [identify(model, sound, song) for sound, song in zip(audio, songs, strict=True)]
    read, combine = LangdetectReader.read, LridNetModel.combine

    def noted_read(self: LangdetectReader, track: Track) -> Reading | None:
        steps.append("read")
        return read(self, track)

    def noted_combine(self: LridNetModel, *given: Any) -> Any:
        steps.append("combine")
        return combine(self, *given)

    monkeypatch.setattr(LangdetectReader, "read", noted_read)
    monkeypatch.setattr(LridNetModel, "combine", noted_combine)

    async def scenario() -> list[Identification]:
        async with serving(model) as parts:
            tasks = []
            for sound, song in zip(audio, songs, strict=True):
                tasks.append(asyncio.ensure_future(parts.identify(sound, song)))
                if len(tasks) > 1:  # the last two come one and two turns of the event loop later
                    await asyncio.sleep(0)
            return await asyncio.gather(*tasks)

    together = asyncio.run(scenario())
    assert steps == ["read"] * 4 + ["combine"] * 4
    for one, other in zip(alone, together, strict=True):
        assert one.scores.probabilities.tolist() == other.scores.probabilities.tolist()


def test_a_track_whose_reading_fails_fails_alone(model: LridNetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks that came together are read together; the others get the answer that they get alone."""
    songs = [TITLE, Metadata(title="broken"), DIGITS]
    alone = [identify(model, b"1", song) for song in songs]
    read = LangdetectReader.read

    def failing(self: LangdetectReader, track: Track) -> Reading | None:
        if track.metadata.title == "broken":
            raise RuntimeError("no reading")
        return read(self, track)

    monkeypatch.setattr(LangdetectReader, "read", failing)

    async def scenario() -> list[Identification | BaseException]:
        async with serving(model) as parts:
            return await asyncio.gather(*(parts.identify(b"1", song) for song in songs), return_exceptions=True)

    first, broken, last = asyncio.run(scenario())
    assert isinstance(broken, RuntimeError)
    for one, other in ((first, alone[0]), (last, alone[2])):
        assert isinstance(one, Identification)
        assert one.scores.probabilities.tolist() == other.scores.probabilities.tolist()


def test_a_track_whose_client_left_before_it_was_read_is_forgotten(model: LridNetModel) -> None:
    async def scenario() -> Identification:
        async with serving(model) as parts:
            gone = asyncio.ensure_future(parts.identify(None, DIGITS))
            await asyncio.sleep(0)
            gone.cancel()
            return await parts.identify(None, TITLE)

    found = asyncio.run(scenario())
    assert found.scores.probabilities.tolist() == identify(model, None, TITLE).scores.probabilities.tolist()
