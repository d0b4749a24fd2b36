"""The figures of a cross-validation as Markdown, for a release's card."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from app.domain import NOTHING_SUNG
from app.lab.training.voice_head.data import SPEECH, Ints, Songs
from app.lab.training.voice_head.report import Answer, Figures, HeldOutSong, curve, figures

HEAD = (
    "| | songs | accuracy | balanced | windows | ECE | answered | right of these | zxx | mul |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
CASES: dict[str, Callable[[HeldOutSong], Answer | None]] = {
    "audio, until sure": lambda song: song.ears,
    "audio, whole songs": lambda song: song.whole,
    "audio, of the songs that have names": lambda song: song.ears if song.names else None,
    "names": lambda song: song.names,
    "both": lambda song: song.both,
    "audio with the names of a song in another language": lambda song: song.foreign if song.names else None,
}


def tables(held: Sequence[HeldOutSong], songs: Songs, codes: Sequence[str]) -> str:
    """By case, by bound of the stopping rule, and by language."""
    known = np.flatnonzero(songs.known)
    rows = [HEAD, *(row for name, of in CASES.items() if (row := _case(name, of, held, songs, known, codes)))]
    parts = ["\n".join(rows), _nothing_sung(held, songs), _curve(held, songs, known, codes), _languages(held, songs, codes)]
    return "\n\n".join(part for part in parts if part)


def _case(
    name: str,
    of: Callable[[HeldOutSong], Answer | None],
    held: Sequence[HeldOutSong],
    songs: Songs,
    known: Ints,
    codes: Sequence[str],
) -> str:
    answered = {int(song): answer for song in known if (answer := of(held[song])) is not None}
    if not answered:
        return ""
    found = figures(list(answered.values()), songs.labels[list(answered)], codes)
    return f"| {name} | {len(answered)} | {_cells(found)} |"


def _cells(found: Figures) -> str:
    first = f"{found.accuracy:.3f} | {found.balanced:.3f} | {found.windows:.2f} | {found.calibration_error:.3f}"
    return f"{first} | {found.answered:.3f} | {found.right_answered:.3f} | {found.nothing:.3f} | {found.several:.3f}"


def _nothing_sung(held: Sequence[HeldOutSong], songs: Songs) -> str:
    kinds = (("Instrumentals", np.flatnonzero(~songs.sung)), ("Clips of speech", np.flatnonzero(songs.labels == SPEECH)))
    told = []
    for name, chosen in kinds:
        if len(chosen):
            share = np.mean([held[song].ears.decision == NOTHING_SUNG for song in chosen.tolist()])
            told.append(f"{name} answered `{NOTHING_SUNG}`: {share:.3f} of {len(chosen)}.")
    return " ".join(told)


def _curve(held: Sequence[HeldOutSong], songs: Songs, known: Ints, codes: Sequence[str]) -> str:
    found = curve([held[song] for song in known], songs.labels[known], codes)
    rows = [f"| {bound:g} | {one.accuracy:.3f} | {one.windows:.2f} |" for bound, one in found.items()]
    return "\n".join(["| listening stops at | accuracy | windows |", "|---|---|---|", *rows])


def _languages(held: Sequence[HeldOutSong], songs: Songs, codes: Sequence[str]) -> str:
    rows = ["| language | songs | right by audio |", "|---|---|---|"]
    for label in np.unique(songs.labels[songs.known]):
        chosen = np.flatnonzero(songs.labels == label)
        right = np.mean([held[song].ears.probabilities.argmax() == label for song in chosen.tolist()])
        rows.append(f"| {codes[label]} | {len(chosen)} | {right:.2f} |")
    return "\n".join(rows)
