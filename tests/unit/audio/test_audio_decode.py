"""Every format, rate, channel count and subtype comes out as the same tone; silence is skipped; long files are sought."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.audio.stream import Stream
from app.domain import FloatArray, Recording
from tests import audio_samples as samples_of

PCM = {"WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"), "AIFF": ("PCM_S8", "PCM_16", "FLOAT")}


def strongest_hz(samples: FloatArray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(spectrum.argmax() * rate_hz / samples.size)


def assert_tone(recording: Recording, spec: WindowSpec, hz: float = 440.0, peak: float = 0.5, seconds: float = 2.0) -> None:
    assert recording.seconds == pytest.approx(seconds, abs=0.06)  # AAC and MP3 pad
    (window,) = recording.windows
    assert window.samples.shape == (spec.window_samples,)
    assert window.samples.dtype == np.float32
    middle = window.samples[spec.sample_rate_hz // 2 : spec.sample_rate_hz * 3 // 2]
    assert strongest_hz(middle, spec.sample_rate_hz) == pytest.approx(hz, abs=1.5)
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(peak / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("name", samples_of.WHOLE)
def test_every_format(name: str, request_8: WindowRequest, limits: DecodeLimits) -> None:
    assert_tone(load_recording(samples_of.WHOLE[name](), request_8, limits), request_8.spec)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("make", [samples_of.wav, samples_of.flac, samples_of.aiff])
def test_rates(make: Any, rate_hz: int, request_8: WindowRequest, limits: DecodeLimits) -> None:
    data = make(samples_of.tone(rate_hz=rate_hz), rate_hz=rate_hz)
    assert_tone(load_recording(data, request_8, limits), request_8.spec)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 32_000, 48_000])
@pytest.mark.parametrize("make", [samples_of.mp3, samples_of.vorbis, samples_of.m4a, samples_of.aac])
def test_rates_of_lossy_formats(make: Any, rate_hz: int, request_8: WindowRequest, limits: DecodeLimits) -> None:
    data = make(samples_of.tone(seconds=4, rate_hz=rate_hz), rate_hz=rate_hz)
    assert load_recording(data, request_8, limits).seconds == pytest.approx(4.0, abs=0.4)  # 8 kHz AAC pads by 2048 samples
    assert_tone(replace(load_recording(data, request_8, limits), seconds=2.0), request_8.spec)


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("make", [samples_of.wav, samples_of.flac, samples_of.vorbis, samples_of.opus])
def test_channels(make: Any, channels: int, request_8: WindowRequest, limits: DecodeLimits) -> None:
    rate_hz = 48_000
    data = make(samples_of.tone(rate_hz=rate_hz, channels=channels), rate_hz=rate_hz)
    # Lossy multichannel coders treat the low-frequency channel apart: 1 of 8 channels of the mean.
    level = 0.5 if make in (samples_of.wav, samples_of.flac) or channels < 6 else None
    recording = load_recording(data, request_8, limits)
    if level is not None:
        assert_tone(recording, request_8.spec)
    else:
        assert strongest_hz(recording.windows[0].samples[11_025:33_075], 22_050) == pytest.approx(440, abs=1.5)


@pytest.mark.parametrize(("container", "subtype"), [(c, s) for c, subtypes in PCM.items() for s in subtypes])
def test_subtypes(container: str, subtype: str, request_8: WindowRequest, limits: DecodeLimits) -> None:
    data = samples_of.encode(samples_of.tone(), container, subtype)
    assert_tone(load_recording(data, request_8, limits), request_8.spec)


@pytest.mark.parametrize("codec", ["flac", "alac", "libmp3lame", "pcm_s16le", "libopus"])
def test_codecs_in_matroska_and_quicktime(codec: str, request_8: WindowRequest, limits: DecodeLimits) -> None:
    muxer = "mov" if codec in ("alac", "pcm_s16le") else "matroska"
    rate_hz = 48_000
    data = samples_of.container(samples_of.tone(rate_hz=rate_hz), muxer, codec, rate_hz)
    assert_tone(load_recording(data, request_8, limits), request_8.spec)


def test_flac_in_ogg_and_rf64(request_8: WindowRequest, limits: DecodeLimits) -> None:
    assert_tone(load_recording(samples_of.encode(samples_of.tone(), "RF64", "PCM_16"), request_8, limits), request_8.spec)
    ogg = samples_of.container(samples_of.tone(), "ogg", "flac")
    assert load_recording(ogg, request_8, limits).format == "FLAC"
    assert_tone(load_recording(ogg, request_8, limits), request_8.spec)


def test_downmix_is_the_mean_of_the_channels(request_8: WindowRequest, limits: DecodeLimits) -> None:
    stereo = samples_of.tone()
    stereo[:, 1] = 0.0
    assert_tone(load_recording(samples_of.wav(stereo), request_8, limits), request_8.spec, peak=0.25)
    stereo[:, 1] = -stereo[:, 0]
    assert_tone(load_recording(samples_of.wav(stereo), request_8, limits), request_8.spec)


def test_own_rate_is_passed_through_unchanged(request_8: WindowRequest, limits: DecodeLimits) -> None:
    mono = samples_of.song(30, rate_hz=22_050, channels=1)
    recording = load_recording(samples_of.wav(mono, "FLOAT", 22_050), request_8, limits)
    assert np.array_equal(recording.windows[0].samples, mono[:, 0])


def test_id3_tags_are_skipped_before_any_format(request_8: WindowRequest, limits: DecodeLimits) -> None:
    tag = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)  # 256 bytes of body
    for name in ("mp3", "flac", "aac", "wav"):
        assert_tone(load_recording(tag + samples_of.WHOLE[name](), request_8, limits), request_8.spec)


def test_mp3_with_a_trailing_tag(request_8: WindowRequest, limits: DecodeLimits) -> None:
    assert_tone(load_recording(samples_of.mp3() + b"TAG" + bytes(125), request_8, limits), request_8.spec)


def test_streamed_wav_of_no_stated_length(request_8: WindowRequest, limits: DecodeLimits) -> None:
    assert_tone(load_recording(samples_of.wav_streamed(), request_8, limits), request_8.spec)


def test_a_path_is_read(tmp_path: Path, request_8: WindowRequest, limits: DecodeLimits) -> None:
    path = tmp_path / "tone.txt"  # the name means nothing
    path.write_bytes(samples_of.flac())
    assert_tone(load_recording(path, request_8, limits), request_8.spec)


def test_short_clip_is_repeated_end_to_end(request_8: WindowRequest, limits: DecodeLimits) -> None:
    mono = samples_of.song(10, rate_hz=22_050, channels=1)
    (window,) = load_recording(samples_of.wav(mono, "FLOAT", 22_050), request_8, limits).windows
    assert window.seconds == pytest.approx(10.0, abs=0.01)
    assert np.array_equal(window.samples, np.resize(mono[:, 0], request_8.spec.window_samples))


def test_leading_and_trailing_silence_is_skipped(request_8: WindowRequest, limits: DecodeLimits) -> None:
    silence = np.zeros((22_050 * 5, 1), np.float32)
    data = samples_of.wav(np.concatenate([silence, samples_of.song(40, 22_050, 1), silence, silence]), "PCM_16", 22_050)
    recording = load_recording(data, request_8, limits)
    assert recording.seconds == pytest.approx(55.0)
    assert [w.start_seconds for w in recording.windows] == pytest.approx([5.0, 15.0], abs=0.01)


def test_silent_windows_are_dropped_and_silence_has_none(request_8: WindowRequest, limits: DecodeLimits) -> None:
    sound, silence = samples_of.song(10, 8_000, 1), np.zeros((8_000 * 100, 1), np.float32)
    data = samples_of.wav(np.concatenate([sound, silence, sound]), rate_hz=8_000)
    starts = [w.start_seconds for w in load_recording(data, request_8, limits).windows]
    assert starts == pytest.approx([0.0, 90.0], abs=0.01)
    quiet = samples_of.tone(peak=0.9e-3)  # under -60 dBFS
    assert load_recording(samples_of.wav(quiet, "FLOAT"), request_8, limits).windows == ()
    assert len(load_recording(samples_of.wav(quiet * 1.2, "FLOAT"), request_8, limits).windows) == 1


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "vorbis", "opus", "m4a", "webm", "aac", "aiff"])
def test_windows_of_a_long_file_are_sought_to_the_right_place(
    kind: str, request_8: WindowRequest, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not decoded from end to end gives the windows that decoding it from end to end gives."""
    rate_hz = 48_000 if kind in ("opus", "webm") else 22_050
    melody = samples_of.song(50, rate_hz, 1)
    melody[: 2 * rate_hz] = melody[-3 * rate_hz :] = 0.0
    data = getattr(samples_of, kind)(melody, rate_hz=rate_hz)
    small = WindowRequest(WindowSpec(22_050, 22_050 * 5), 3)
    read: list[float] = []
    blocks = Stream.blocks

    def counted(self: Any, start: Any, stop: Any) -> Iterator[Any]:
        for rate, block in blocks(self, start, stop):
            read.append(block.size / rate)
            yield rate, block

    monkeypatch.setattr(Stream, "blocks", counted)
    parts = load_recording(data, small, limits)
    assert sum(read) < 35.0  # 15 s of windows, 2 s before, 3 s after, and steps of the search
    entire = load_recording(data, replace(small, max_windows=100), limits)
    truth = np.concatenate([melody[:, 0], np.zeros(rate_hz, np.float32)])
    assert [w.start_seconds for w in parts.windows] == pytest.approx([2.0, 22.0, 42.0], abs=0.15)
    assert parts.seconds == pytest.approx(entire.seconds, abs=0.1)
    for window in parts.windows:
        at = round(window.start_seconds * rate_hz)
        expected = truth[at : at + 5 * rate_hz : rate_hz // 22_050 or 1]
        if rate_hz == 22_050:
            assert _best_shift(window.samples, expected) <= 0.06  # seconds; AAC's and MP3's own delay


def _best_shift(samples: FloatArray, expected: FloatArray) -> float:
    """Seconds by which `samples` are best shifted to lie on `expected`; they must then correlate."""
    n = 1 << 18
    cross = np.fft.irfft(np.fft.rfft(samples, n) * np.conj(np.fft.rfft(expected, n)), n)
    best = int(cross.argmax())
    assert cross[best] > 0.8 * np.linalg.norm(samples) * np.linalg.norm(expected)
    return min(best, n - best) / 22_050


def test_same_bytes_same_answer(request_8: WindowRequest, limits: DecodeLimits) -> None:
    data = samples_of.mp3(samples_of.song(35, 22_050, 1), 22_050)
    first, second = load_recording(data, request_8, limits), load_recording(data, request_8, limits)
    for a, b in zip(first.windows, second.windows, strict=True):
        assert np.array_equal(a.samples, b.samples)


def test_further_windows_are_asked_for_by_the_next_index(spec: WindowSpec, limits: DecodeLimits) -> None:
    """A silent planned window is replaced by the next one in order."""
    five = replace(spec, window_samples=5 * spec.sample_rate_hz, positions=(0.5, 0.25, 0.75))
    sound, silence = samples_of.song(60, 8_000, 1), np.zeros((7 * 8_000, 1), np.float32)
    data = samples_of.wav(np.concatenate([sound, silence, sound]), rate_hz=8_000)  # the middle is silent
    every = load_recording(data, WindowRequest(five, 5), limits)
    assert (every.planned, every.next_index, len(every.windows)) == (5, 5, 4)
    opened = load_recording(data, WindowRequest(five, 5, take=0), limits)
    assert (opened.windows, opened.next_index, opened.seconds) == ((), 0, every.seconds)
    first = load_recording(data, WindowRequest(five, 5, take=2), limits)
    assert first.next_index == 3
    second = load_recording(data, WindowRequest(five, 5, skip=first.next_index, take=1), limits)
    for one, other in zip((*first.windows, *second.windows), every.windows, strict=False):
        assert one.start_seconds == other.start_seconds
        assert np.array_equal(one.samples, other.samples)
