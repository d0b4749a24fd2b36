"""Speech from espeak-ng: the raw material of the singing. Every voice variant is used for every language."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.lab.training.synthesis.errors import EspeakFailed, EspeakMissing, WorldMissing
from app.lab.training.synthesis.lines import Split

Samples = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 22_050  # what espeak-ng writes and what the release listens at
WAV_HEADER_BYTES = 44  # espeak-ng writes a plain RIFF header with an unknown length
ESPEAK_TIMEOUT_SECONDS = 30.0
NO_ESPEAK = "espeak-ng was not found on the PATH."
NO_WORLD = "The Python package pyworld is not installed."


@dataclass(frozen=True)
class Voice:
    """A variant of espeak-ng and the register it sings in."""

    variant: str
    register: Literal["low", "high"]


def _voices(low: str, high: str) -> tuple[Voice, ...]:
    return (*(Voice(v, "low") for v in low.split()), *(Voice(v, "high") for v in high.split()))


TRAIN_VOICES = _voices(
    low="m1 m2 m3 m4 m6 m7 m8 klatt klatt2 klatt4 Diogo Gene adam zac sandro norbert",
    high="f1 f2 f4 f5 klatt3 klatt6 Andrea Annie anika belinda linda steph",
)
VALID_VOICES = _voices(low="m5 klatt5 marcelo miguel", high="f3 Alicia steph2")


def voices_of(split: Split) -> tuple[Voice, ...]:
    """Validation is sung by voices that training never heard."""
    return TRAIN_VOICES if split == "train" else VALID_VOICES


def require_espeak() -> None:
    """Fail before any work is done if espeak-ng is not there.

    Raises:
        EspeakMissing: it is not installed.
    """
    if shutil.which("espeak-ng") is None:
        raise EspeakMissing(NO_ESPEAK)


def require_world() -> None:
    """Fail before any work is done if pyworld is not there.

    Raises:
        WorldMissing: it is not installed.
    """
    if importlib.util.find_spec("pyworld") is None:
        raise WorldMissing(NO_WORLD)


def speak(text: str, voice: str, words_per_minute: int, pitch: int) -> Samples:
    """Speech of `text`, shape (n_samples,), mono at SAMPLE_RATE_HZ, in [-1, 1]. `voice` is e.g. "sv+f2".

    Raises:
        EspeakMissing: it is not installed.
        EspeakFailed: it gave no speech, or does not know the voice.
    """
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "--stdin", "--stdout"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=ESPEAK_TIMEOUT_SECONDS)
    except FileNotFoundError as error:
        raise EspeakMissing(NO_ESPEAK) from error
    except subprocess.TimeoutExpired as error:
        raise EspeakFailed(f"espeak-ng did not finish with voice {voice}.") from error
    if done.returncode != 0 or len(done.stdout) <= WAV_HEADER_BYTES:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        detail = f"espeak-ng gave no speech with voice {voice}: {reason[0] if reason else 'no reason given'}."
        raise EspeakFailed(detail)
    pcm = done.stdout[WAV_HEADER_BYTES:]
    return np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype="<i2").astype(np.float64) / 32768
