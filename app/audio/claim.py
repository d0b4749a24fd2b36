"""What a file says about itself before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from app.audio.spec import MAX_CHANNELS, MAX_SAMPLE_RATE_HZ, MIN_AUDIO_SECONDS, MIN_SAMPLE_RATE_HZ, DecodeLimits
from app.errors import AudioEmpty, AudioParameters, AudioTooLong, AudioTruncated


@dataclass(frozen=True, slots=True)
class Claim:
    """Header values; `None` where the container does not say."""

    format: str
    sample_rate_hz: int | None = None
    channels: int | None = None
    seconds: float | None = None
    missing: str = ""  # what the header promised and what came, when the file ends too early


def check_claim(claim: Claim, limits: DecodeLimits) -> None:
    """Refuse by the header. Raises AudioParameters, AudioTooLong, AudioTruncated, AudioEmpty, in this order."""
    if claim.sample_rate_hz is not None and not MIN_SAMPLE_RATE_HZ <= claim.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise AudioParameters(
            f"Expected {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz; the header says {claim.sample_rate_hz} Hz."
        )
    if claim.channels is not None and not 1 <= claim.channels <= MAX_CHANNELS:
        raise AudioParameters(f"Expected 1 to {MAX_CHANNELS} channels; the header says {claim.channels}.")
    if claim.seconds is not None and claim.seconds > limits.max_audio_seconds:
        raise AudioTooLong(
            f"Expected at most {limits.max_audio_seconds:g} s of audio; the header says {claim.seconds:.1f} s."
        )
    if claim.missing:
        raise AudioTruncated(claim.missing)
    if claim.seconds is not None and claim.seconds < MIN_AUDIO_SECONDS:
        raise too_short(claim.seconds)


def too_short(seconds: float) -> AudioEmpty:
    return AudioEmpty(f"Expected at least {MIN_AUDIO_SECONDS} s of audio; it holds {max(seconds, 0.0):.3f} s.")
