"""What to cut out of a recording, and how much of it a decoder may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = 8
MIN_AUDIO_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """The windows a release listens to; the numbers come from its manifest and from the request."""

    sample_rate_hz: int
    window_samples: int
    max_windows: int

    @property
    def window_seconds(self) -> float:
        return self.window_samples / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on one file. Time and memory are bounded from outside, by `DecodePool`."""

    max_audio_seconds: float
    silence_dbfs: float  # peak level under which audio counts as silent
    edge_search_seconds: float = 120.0  # how far leading and trailing silence are followed in a long recording
    max_streams: int = 32  # of any kind, in one container

    @property
    def silence_peak(self) -> float:
        """`silence_dbfs` as an absolute sample value, 1.0 being full scale."""
        return float(10.0 ** (self.silence_dbfs / 20.0))
