"""Every malformed file gets its own error, fast, and says what was expected and what came."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.errors import AudioError, AudioTooLong, AudioTruncated
from tests import audio_samples as samples_of

REQUEST = WindowRequest(WindowSpec(22_050, 22_050 * 5), 3)
LIMITS = DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)


@pytest.mark.parametrize("name", samples_of.HOSTILE)
def test_hostile_file(name: str, request_8: WindowRequest, limits: DecodeLimits) -> None:
    make, code = samples_of.HOSTILE[name]
    with pytest.raises(AudioError) as caught:
        load_recording(make(), request_8, limits)
    assert caught.value.code == code
    assert caught.value.detail.endswith(".")


@pytest.mark.parametrize("name", samples_of.WHOLE)
def test_too_long_for_the_limit(name: str) -> None:
    with pytest.raises(AudioTooLong, match=r"at most 1 s"):
        load_recording(samples_of.WHOLE[name](), REQUEST, replace(LIMITS, max_audio_seconds=1.0))


@pytest.mark.parametrize("name", ["wav", "aiff", "flac", "mp3", "vorbis", "opus", "m4a", "mp4", "webm"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
def test_truncation_is_told_wherever_it_happens(name: str, share: float) -> None:
    with pytest.raises(AudioTruncated):
        load_recording(samples_of.cut(samples_of.WHOLE[name](), share), REQUEST, LIMITS)


def test_truncation_of_a_long_flac_is_seen_without_decoding_it_all() -> None:
    data = samples_of.cut(samples_of.flac(samples_of.song(60, 8_000, 1), rate_hz=8_000))
    with pytest.raises(AudioTruncated):
        load_recording(data, REQUEST, LIMITS)


def test_parts_of_a_long_file_with_nan_are_refused() -> None:
    samples = samples_of.song(60, 8_000, 1)
    samples[20_000:] = float("nan")
    with pytest.raises(AudioError) as caught:
        load_recording(samples_of.wav(samples, "FLOAT", 8_000), REQUEST, LIMITS)
    assert caught.value.code == "audio_not_finite"


def test_nothing_is_decoded_of_a_file_that_is_too_long() -> None:
    data = samples_of.long_silence("FLAC")
    began = time.perf_counter()
    with pytest.raises(AudioTooLong):
        load_recording(data, REQUEST, LIMITS)
    assert time.perf_counter() - began < 0.5  # decoding it takes some 10 s


def test_silence_within_the_limit_is_not_searched_to_the_end() -> None:
    """3 h of silence, allowed: 2 minutes at either edge are looked at, and the windows."""
    began = time.perf_counter()
    recording = load_recording(samples_of.long_silence("FLAC"), REQUEST, replace(LIMITS, max_audio_seconds=4 * 3600.0))
    assert recording.windows == ()
    assert recording.seconds == 3 * 3600.0
    assert time.perf_counter() - began < 3.0


FLIPPED = {name: make() for name, make in samples_of.WHOLE.items()}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(FLIPPED)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20),
    front=st.booleans(),
)
def test_damaged_bytes_give_an_answer_or_an_audio_error(name: str, flips: list[tuple[float, int]], front: bool) -> None:
    data = bytearray(FLIPPED[name])
    for place, value in flips:
        data[int(place * (200 if front else len(data)))] = value
    try:
        recording = load_recording(bytes(data), REQUEST, LIMITS)
    except AudioError:
        return
    assert all(window.samples.shape == (REQUEST.spec.window_samples,) for window in recording.windows)
