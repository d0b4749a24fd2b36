"""Questions to a decoding process and its answers, as the JSON headers of `app.audio.wire`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.audio.wire import Header, PeerGoneError
from app.domain import METADATA_FIELDS, AudioWarning, FloatArray, Metadata, Recording, Window

MAX_WARNINGS = 8


def question(size: int, request: WindowRequest, limits: DecodeLimits) -> Header:
    """The header for a file of `size` bytes, which follow."""
    return {"bytes": size, "request": asdict(request), "limits": asdict(limits)}


def read_question(header: Header) -> tuple[WindowRequest, DecodeLimits]:
    """The inverse of `question`."""
    fields = dict(header["request"])
    return WindowRequest(**fields | {"spec": WindowSpec(**fields["spec"])}), DecodeLimits(**header["limits"])


def answer(recording: Recording) -> Header:
    """Everything but the samples, which follow."""
    return {
        "seconds": recording.seconds,
        "format": recording.format,
        "windows": [(window.start_seconds, window.seconds) for window in recording.windows],
        "warnings": [(warning.code, warning.detail, warning.at_seconds) for warning in recording.warnings],
        "tags": None if recording.tags is None else asdict(recording.tags),
        "lyrics": recording.lyrics,
        "next_index": recording.next_index,
        "planned": recording.planned,
    }


def count_windows(header: Header, request: WindowRequest) -> int:
    """Number of windows of samples that follow. Raises PeerGoneError for more than were requested."""
    count = len(header["windows"]) if isinstance(header.get("windows"), list) else -1
    if not 0 <= count <= request.max_windows:
        raise PeerGoneError
    return count


def read_answer(header: Header, samples: FloatArray) -> Recording:
    """The inverse of `answer`; `samples`: (n, window_samples). Raises PeerGoneError for anything but a true answer."""
    try:
        windows = tuple(
            Window(_finite(start), _finite(seconds), row)
            for (start, seconds), row in zip(header["windows"], samples, strict=True)
        )
        return Recording(
            seconds=_finite(header["seconds"]),
            windows=windows,
            format=str(header["format"]),
            warnings=tuple(_read_warning(*warning) for warning in header["warnings"][:MAX_WARNINGS]),
            tags=_read_tags(header["tags"]),
            lyrics=None if header["lyrics"] is None else str(header["lyrics"]),
            next_index=int(header["next_index"]),
            planned=int(header["planned"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PeerGoneError from error


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_warning(code: Any, detail: Any, at_seconds: Any) -> AudioWarning:
    if code not in ("truncated", "damaged"):
        raise ValueError
    return AudioWarning(code, str(detail), None if at_seconds is None else _finite(at_seconds))


def _read_tags(tags: Any) -> Metadata | None:
    if tags is None:
        return None
    return Metadata(**{name: None if tags[name] is None else str(tags[name]) for name in METADATA_FIELDS})
