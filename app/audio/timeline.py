"""Start of each packet of a stream within the track: counted in decoded samples, not by the clock of its time stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

_STAMP_TOLERANCE_SECONDS = 0.1
_END_PACKETS = 4  # at either end, and at seams, packets may say that the decoder leaves samples out
_TRIMMED = ("opus", "vorbis")  # the duration of their last packet lacks already what is left out of it


@dataclass(frozen=True, slots=True)
class Timeline:
    """The first sample that comes out is at 0."""

    starts: npt.NDArray[np.float64]  # (n + 1,) seconds at which each packet begins, and the length of the track
    gaps: tuple[int, ...]  # indices of packets that do not begin where the one before ended, but later
    chained: bool  # the decoder is set anew on the way: it must begin at the beginning


def measure(packets: Sequence[av.Packet[Any]], base_seconds: float, rate_hz: int, codec: str) -> Timeline:
    """`base_seconds`: the unit of the packets' durations and time stamps.

    Time stamps are taken where they agree more or less with the durations: FFmpeg's durations of Vorbis packets are
    inexact, those of WebM rounded. Where they do not (gaps, a new start), durations count. What the decoder leaves out
    at either end is taken off.
    """
    ticks = np.array([packet.duration or 0 for packet in packets], np.float64)
    stamps = np.array([np.nan if packet.pts is None else packet.pts for packet in packets], np.float64)
    lacks_end = ticks.size > _END_PACKETS and ticks[-1] > 2 * ticks[:-1].max()  # Ogg: pages before the last are missing
    if lacks_end:
        ticks[-1] = ticks[-2]
    steps = np.diff(stamps)
    near = (steps > 0) & (np.abs(steps - ticks[:-1]) <= max(_STAMP_TOLERANCE_SECONDS / base_seconds, 1))
    ticks[:-1][near] = steps[near]
    seconds = ticks * base_seconds
    if codec == "vorbis":  # the first packet only prepares the second
        seconds[:1] = 0.0
    seams = {0, len(packets) - 1} | {int(index) for index in np.flatnonzero(~near)}
    around = {at + offset for at in seams for offset in range(-_END_PACKETS, _END_PACKETS + 1)}
    # Durations finer than samples are not rounded: a packet without one was read before FFmpeg knew the rate, or at a seam.
    chained = bool((seconds[1:-1] == 0).any()) and base_seconds <= 1 / rate_hz
    left_out = 0.0
    for index in sorted(around & set(range(len(packets)))):
        packet = packets[index]
        chained |= packet.has_sidedata("new_extradata")
        if packet.has_sidedata("skip_samples"):
            skip = bytes(packet.get_sidedata("skip_samples"))  # samples at the beginning, samples at the end
            left_out += int.from_bytes(skip[:4], "little") / rate_hz
            if codec not in _TRIMMED:
                seconds[index] = max(seconds[index] - int.from_bytes(skip[4:8], "little") / rate_hz, 0.0)
        for later in range(index, len(packets)):  # a cropped Opus file may leave out many packets
            taken = min(left_out, seconds[later])
            seconds[later] -= taken
            left_out -= taken
            if not left_out:
                break
        if packet.is_discard:
            seconds[index] = 0.0
    gaps = (*(np.flatnonzero(~near & (steps > ticks[:-1])) + 1).tolist(), *([len(packets) - 1] if lacks_end else []))
    return Timeline(np.concatenate([[0.0], np.cumsum(seconds)]), gaps, chained)
