"""Windows to cut out of a recording, and the bounds of a decoder."""

from dataclasses import dataclass
from typing import Literal

MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 8_000, 192_000
MAX_DSD_RATE_HZ = 1_411_200  # of DSD256: FFmpeg gives out an eighth of its rate
MAX_CHANNELS = 8
MIN_AUDIO_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """The windows that a family's audio branch listens to; the values come from the release's manifest."""

    sample_rate_hz: int
    window_samples: int
    padding: Literal["repeat", "silence"] = "repeat"  # a track shorter than a window: repeated, or followed by zeros
    positions: tuple[float, ...] = ()  # middles of windows as shares of the track, in order; (): evenly, in order of time

    @property
    def window_seconds(self) -> float:
        return self.window_samples / self.sample_rate_hz


def middle_positions(n: int) -> tuple[float, ...]:
    """Middles of n windows spread over the middle 60 % of a track, in order of time."""
    return tuple(0.2 + 0.6 * (i + 0.5) / n for i in range(n))


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """The windows of the plan that one call decodes. Further ones: the same bytes with `skip=recording.next_index`."""

    spec: WindowSpec
    max_windows: int  # how many the plan may hold
    skip: int = 0  # index in plan order of the first to decode
    take: int | None = None  # at most so many windows with sound; None: all; 0: length, tags and warnings only
    whole: bool = False  # plan over the whole track in order of time, for a timeline
    read_tags: bool = False
    lyrics_characters: int = 0  # at most so many of the lyrics in the tags; 0: they are not looked for


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on one file. Time and memory are bounded from outside, by `DecodePool`."""

    max_audio_seconds: float
    silence_dbfs: float  # peak level under which audio counts as silent
    edge_search_seconds: float = 120.0  # in which the first and the last sound of a long recording are looked for
    max_streams: int = 32  # of any kind, in one container

    @property
    def silence_peak(self) -> float:
        """`silence_dbfs` as an absolute sample value, 1.0 being full scale."""
        return float(10.0 ** (self.silence_dbfs / 20.0))
