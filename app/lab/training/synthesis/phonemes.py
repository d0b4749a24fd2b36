"""Which phoneme is sung when: espeak-ng says when it says each, and the melody says where that went.

For training only (`--phoneme-loss-weight`): a file beside each clip, one line a phoneme, "milliseconds IPA", "_" for a rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from app.lab.training.synthesis import espeak_phonemes
from app.lab.training.synthesis.errors import EspeakFailed
from app.lab.training.synthesis.melody import draw_melody
from app.lab.training.synthesis.settings import ClipSettings
from app.lab.training.synthesis.singing import FRAME_MS, hear_syllables, place_syllables
from app.lab.training.synthesis.voices import ESPEAK_TIMEOUT_SECONDS, SAMPLE_RATE_HZ, Samples

REST = "_"
SUFFIX = ".phonemes"
Phonemes = list[tuple[float, str]]  # (milliseconds from the start, IPA or REST), in order


def spoken_phonemes(text: str, voice: str, settings: ClipSettings) -> list[tuple[int, str]]:
    """[(sample, IPA)] of what `voices.speak` says for the same arguments; "" is a pause.

    Raises:
        EspeakFailed: the library of espeak-ng is missing or fails.
    """
    order = {"text": text, "voice": voice, "words_per_minute": settings.words_per_minute, "pitch": settings.speech_pitch}
    command = [sys.executable, "-I", "-S", str(Path(espeak_phonemes.__file__))]
    try:
        done = subprocess.run(
            command, input=json.dumps(order).encode(), capture_output=True, check=True, timeout=ESPEAK_TIMEOUT_SECONDS
        )
        return [(int(sample), str(ipa)) for sample, ipa in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise EspeakFailed(f"espeak-ng's library gave no phonemes with voice {voice}: {error}.") from error


def sung_phonemes(speech: Samples, spoken: list[tuple[int, str]], settings: ClipSettings) -> Phonemes:
    """What is sung when, in `clip.perform(speech, settings)`. `spoken` are the phonemes of `speech`."""
    melody = draw_melody(settings, np.random.default_rng(settings.seed))
    syllables = hear_syllables(speech, melody.syllables)
    source, _ = place_syllables(syllables, melody, settings)
    seconds = (syllables.first_frame + source) * FRAME_MS / 1000
    starts = np.array([sample for sample, _ in spoken])
    which = np.searchsorted(starts, seconds * SAMPLE_RATE_HZ, side="right") - 1
    sung: Phonemes = []
    for frame, (k, sounds) in enumerate(zip(which, source >= 0, strict=True)):
        ipa = (spoken[k][1] or REST) if sounds and k >= 0 else REST
        if not sung or sung[-1][1] != ipa:
            sung.append((frame * FRAME_MS, ipa))
    return sung


def write_phonemes(path: Path, phonemes: Phonemes) -> None:
    """Beside the clip at `path`, whole or not at all."""
    part = path.with_suffix(f"{SUFFIX}.part")
    part.write_text("".join(f"{ms:.0f} {ipa}\n" for ms, ipa in phonemes), encoding="utf-8")
    part.replace(path.with_suffix(SUFFIX))


def read_phonemes(path: Path) -> Phonemes | None:
    """Those of the clip at `path`, or None."""
    try:
        lines = path.with_suffix(SUFFIX).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return [(float(ms), ipa) for ms, ipa in (line.split(" ", 1) for line in lines)]
