"""Every malformed file gets its own error, fast, and says what was expected and what came."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.errors import AudioError, AudioTooLong
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


@pytest.mark.parametrize("name", samples_of.FAULTY)
def test_what_can_be_heard_of_a_faulty_file_is_heard(name: str) -> None:
    make, code = samples_of.FAULTY[name]
    recording = load_recording(make(), REQUEST, LIMITS)
    (warning,) = recording.warnings
    assert warning.code == code
    assert warning.detail.endswith(".")
    assert warning.at_seconds is not None
    assert 0.0 <= warning.at_seconds <= recording.seconds + 0.1
    assert recording.windows


@pytest.mark.parametrize("name", samples_of.WHOLE)
def test_a_whole_file_has_no_warnings(name: str) -> None:
    assert load_recording(samples_of.WHOLE[name](), REQUEST, LIMITS).warnings == ()


@pytest.mark.parametrize("name", ["wav", "aiff", "flac", "mp3", "vorbis", "aac", "webm"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
def test_truncation_is_told_wherever_it_happens(name: str, share: float) -> None:
    rate_hz = 48_000 if name == "webm" else samples_of.RATE_HZ
    data = getattr(samples_of, name)(samples_of.song(10, rate_hz, 1), rate_hz=rate_hz)
    recording = load_recording(samples_of.cut(data, share), REQUEST, LIMITS)
    assert [warning.code for warning in recording.warnings] == ["truncated"]
    assert recording.seconds == pytest.approx(10 * share, abs=1.3)


def test_truncation_of_a_long_flac_is_seen_without_decoding_it_all() -> None:
    data = samples_of.cut(samples_of.flac(samples_of.song(60, 8_000, 1), rate_hz=8_000))
    recording = load_recording(data, REQUEST, LIMITS)
    (warning,) = recording.warnings
    assert warning.code == "truncated"
    assert warning.at_seconds == recording.seconds == pytest.approx(36.0, abs=0.6)


@pytest.mark.parametrize("kind", ["vorbis", "opus"])
def test_an_ogg_file_needs_no_mark_of_its_end(kind: str) -> None:
    """Phones' recorders leave it out."""
    data = bytearray(getattr(samples_of, kind)())
    data[data.rfind(b"OggS") + 5] &= 0xFB
    at = data.rfind(b"OggS")
    data[at + 22 : at + 26] = samples_of.ogg_checksum(bytes(data[at:]))
    recording = load_recording(bytes(data), REQUEST, LIMITS)
    assert recording.warnings == ()
    assert recording.seconds == pytest.approx(2.0, abs=0.05)


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
