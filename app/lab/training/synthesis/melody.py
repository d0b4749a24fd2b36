"""Random melodies: what is sung to, whatever the language."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.lab.training.synthesis.settings import ClipSettings

SCALES = (  # semitones above the tonic
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # natural minor
    (0, 2, 4, 7, 9),  # major pentatonic
    (0, 3, 5, 7, 10),  # minor pentatonic
    (0, 2, 3, 5, 7, 9, 10),  # dorian
    (0, 2, 4, 5, 7, 9, 10),  # mixolydian
)
NOTE_BEATS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
NOTE_SHARES = (0.14, 0.5, 0.08, 0.19, 0.06, 0.03)
SHORTEST_NOTE_SECONDS = 0.13
STEPS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)  # scale degrees from note to note
STEP_SHARES = (0.03, 0.05, 0.13, 0.24, 0.14, 0.2, 0.12, 0.06, 0.03)
MELISMA_SHARE = 0.08  # notes that go on with the syllable before


@dataclass(frozen=True)
class Note:
    """One note of a melody, or a rest."""

    seconds: float
    midi: float  # note number; ignored in a rest
    kind: str  # "syllable": begins a syllable; "melisma": goes on with it; "rest"


@dataclass(frozen=True)
class Melody:
    """A tune that fills the clip."""

    notes: tuple[Note, ...]

    @property
    def syllables(self) -> int:
        return sum(note.kind == "syllable" for note in self.notes)


def scale_of(settings: ClipSettings) -> tuple[int, ...]:
    """The scale of the clip, in semitones above the tonic."""
    return SCALES[settings.scale % len(SCALES)]


def degree_to_midi(degree: int, settings: ClipSettings) -> float:
    """MIDI number of a scale degree; degree 0 is the tonic nearest to the middle of the sung range."""
    scale = scale_of(settings)
    tonic = settings.tonic_midi + 12 * round((settings.centre_midi - settings.tonic_midi) / 12)
    octave, step = divmod(degree, len(scale))
    return tonic + 12 * octave + scale[step]


def draw_melody(settings: ClipSettings, rng: np.random.Generator) -> Melody:
    """Phrases of 4 to 11 notes with breaths between, as long as the clip."""
    beat_seconds = 60 / settings.beats_per_minute
    notes: list[Note] = [Note(float(rng.uniform(0, 0.5)), 0.0, "rest")]
    left = settings.seconds - notes[0].seconds
    in_phrase, degree = int(rng.integers(4, 12)), int(rng.integers(-3, 4))
    while left > SHORTEST_NOTE_SECONDS:
        in_phrase -= 1
        beats = float(rng.choice(NOTE_BEATS, p=NOTE_SHARES)) if in_phrase else float(rng.choice((1.0, 1.5, 2.0)))
        seconds = min(max(beats * beat_seconds, SHORTEST_NOTE_SECONDS), left)
        degree = int(np.clip(degree + rng.choice(STEPS, p=STEP_SHARES), -5, 6))
        is_melisma = notes[-1].kind != "rest" and rng.random() < MELISMA_SHARE
        notes.append(Note(seconds, degree_to_midi(degree, settings), "melisma" if is_melisma else "syllable"))
        left -= seconds
        if in_phrase == 0:
            in_phrase = int(rng.integers(4, 12))
            rest = min(float(rng.choice((0.5, 1.0, 1.5))) * beat_seconds, max(left, 0.0))
            notes.append(Note(rest, 0.0, "rest"))
            left -= rest
    if left > 0:
        notes.append(Note(left, 0.0, "rest"))
    return Melody(tuple(notes))
