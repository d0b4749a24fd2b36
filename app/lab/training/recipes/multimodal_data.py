"""What the multimodal network learns from: segments of songs, with all that is known of the song."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain import FloatArray
from app.families.contract import VectorField
from app.families.multimodal.listen import taken_apart
from app.families.multimodal.manifest import SegmentConfig
from app.families.multimodal.model import CONSUMPTION
from app.lab.corpus.catalogue import Row
from app.lab.corpus.made.sessions import session_embeddings
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import further_of
from app.lab.labels import WORLD_ALIASES
from app.lab.training.voice_head.data import NOTHING, group_folds, read_heard

HEARD_SECONDS = 10.0  # of a window of cached features


@dataclass(frozen=True, slots=True)
class Songs:
    """n songs and their segments; NaN stands for what is missing."""

    vocals: FloatArray  # (n_segments, n_state)
    seconds: FloatArray  # (n_segments,)
    owner: npt.NDArray[np.int64]  # (n_segments,) the song
    timbral: FloatArray  # (n, 2k)
    consumption: FloatArray  # (n, c)
    labels: npt.NDArray[np.int64]  # (n,)
    splits: npt.NDArray[np.str_]  # (n,)

    def part(self, name: str) -> FloatArray:
        """(n_segments, size): fanned out to the segments."""
        own: FloatArray = getattr(self, name)
        return own if name == "vocals" else own[self.owner]


def songs_of(rows: Sequence[Row], heard: Sequence[FloatArray], n_state: int, config: SegmentConfig) -> Songs:
    """`heard`: what the listener made of each row's windows. A song without voice has one segment without embedding."""
    kept = [(row, own) for row, own in zip(rows, heard, strict=True) if len(own)]
    if not kept:
        raise CorpusError("all recordings of the catalogue are silent")
    apart = [taken_apart(own, n_state, config) for _, own in kept]
    nothing = np.full((1, n_state), np.nan, np.float32)
    vocals = [one.embeddings if len(one.seconds) else nothing for one in apart]
    return Songs(
        np.concatenate(vocals),
        np.concatenate([one.seconds if len(one.seconds) else np.ones(1, np.float32) for one in apart]),
        np.repeat(np.arange(len(kept)), [len(own) for own in vocals]),
        np.stack([one.timbral for one in apart]),
        consumption_of([row for row, _ in kept]),
        np.array([row.label for row, _ in kept], np.int64),
        np.array([row.split for row, _ in kept]),
    )


def consumption_of(rows: Sequence[Row]) -> FloatArray:
    """(n, c) of the column `consumption`, a JSON array or nothing; NaN where there is none. Raises CorpusError."""
    lengths = [_length(cell) for row in rows if (cell := row.cells.get(CONSUMPTION))]
    fields = {CONSUMPTION: VectorField(lengths[0] if lengths else 0)}
    nothing = np.full(fields[CONSUMPTION].length, np.nan, np.float32)
    return np.stack([np.asarray(further_of(row, fields).get(CONSUMPTION, nothing), np.float32) for row in rows])


def _length(cell: str) -> int:
    """Of the JSON array in a cell; 1 for a cell that holds none, which is refused then."""
    try:
        return len(json.loads(cell))
    except (ValueError, TypeError):
        return 1


def heard_songs(folder: Path, codes: Sequence[str], most_windows: int, seed: int, *, with_sessions: bool) -> Songs:
    """Cached features of real songs: windows are segments, groups are split 5 : 1 : 1, sessions are made if wanted."""
    heard = read_heard(folder, codes, WORLD_ALIASES)
    heard = heard.subset(np.flatnonzero(heard.labels != NOTHING))
    n, folds = len(heard.labels), group_folds(heard, 7, seed)
    sessions = session_embeddings([codes[label] for label in heard.labels], seed) if with_sessions else np.zeros((n, 0))
    spread = [np.unique(np.linspace(0, count - 1, most_windows).round()) for count in heard.counts]
    chosen = np.concatenate([first + own for first, own in zip(heard.first, spread, strict=True)]).astype(np.int64)
    return Songs(
        heard.hidden[chosen],
        np.full(len(chosen), HEARD_SECONDS, np.float32),
        heard.owner[chosen],
        np.zeros((n, 0), np.float32),
        sessions.astype(np.float32),
        heard.labels,
        np.array(["valid", "test", *["train"] * 5])[folds],
    )
