"""Songs as Singh & Biswas use them (§3.2.1): segments of 3 s from two pieces of a minute, with artist and language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.audio.spec import WindowRequest
from app.audio.windows import fit_window
from app.domain import FloatArray
from app.families.contract import Label
from app.families.multitask.manifest import SegmentConfig, TaskName
from app.lab.caches import Decoder, Waveforms
from app.lab.corpus.catalogue import LANGUAGE, Row, artist_key, class_code
from app.lab.errors import CorpusError
from app.lab.features import cache_folder
from app.lab.labels import WORLD_LABELS
from app.lab.progress import Progress

IntArray = npt.NDArray[np.int64]
Labels = Mapping[TaskName, Sequence[Label]]  # the classes of each task that is learnt
CODE = re.compile(r"[^a-z0-9]+")
REMEDY = "`lrid corpus split --column artist` keeps every artist in train"


class Pieces:
    """File → segments of its pieces."""

    def __init__(self, listen: SegmentConfig) -> None:
        self.request = WindowRequest(listen.piece, listen.pieces)
        self.decode = Decoder(listen.piece, listen.pieces)
        self.segment_samples = listen.segment_samples

    def count(self, n_samples: int) -> int:
        """Whole segments; a song that is shorter than one has one, followed by silence."""
        return max(1, n_samples // self.segment_samples)

    def cut(self, samples: FloatArray) -> list[FloatArray]:
        """(n,) → segments of (segment_samples,)."""
        n = self.count(len(samples))
        return [self.fitted(samples[i * self.segment_samples :]) for i in range(n)]

    def fitted(self, samples: FloatArray) -> FloatArray:
        return fit_window(samples, self.segment_samples, "silence")


@dataclass(frozen=True, slots=True)
class Songs:
    """Rows of one split, their classes, and their segments on disk."""

    rows: list[Row]
    classes: dict[TaskName, IntArray]  # (n_rows,) each
    places: IntArray  # (n_segments, 2): row, number of the segment
    pieces: Pieces
    waveforms: Waveforms

    def samples(self, numbers: IntArray) -> FloatArray:
        """Numbers of segments → (n, segment_samples)."""
        size = self.pieces.segment_samples
        return np.stack([
            self.pieces.fitted(self.waveforms.read(self.rows[row], segment * size, size))
            for row, segment in self.places[numbers].tolist()
        ])  # fmt: skip

    def labels(self, numbers: IntArray, task: TaskName) -> IntArray:
        """(n,) classes of the segments' songs."""
        labels: IntArray = self.classes[task][self.places[numbers, 0]]
        return labels


def songs_of(rows: list[Row], labels: Labels, listen: SegmentConfig, cache: Path, progress: Progress) -> Songs:
    """Decodes what is not in the cache yet. Raises CorpusError naming the row."""
    pieces = Pieces(listen)
    waveforms = Waveforms(cache_folder(cache, pieces.request, "waveforms"))
    with progress.counting("decoding", len(rows)) as advance:
        waveforms.add(rows, pieces.decode, advance)
    places = [(i, j) for i, row in enumerate(rows) for j in range(pieces.count(waveforms.length(row)))]
    return Songs(rows, classes_of_rows(rows, labels), np.array(places, np.int64).reshape(-1, 2), pieces, waveforms)


def classes_of_rows(rows: Sequence[Row], labels: Labels) -> dict[TaskName, IntArray]:
    """(n_rows,) classes by task. Raises CorpusError naming the row whose artist or language is none."""
    found = {}
    for task, own in labels.items():
        if task == "artist":
            number = {artist_key(label.name): i for i, label in enumerate(own)}
            keys = [artist_key(row.metadata.artist) for row in rows]
        else:
            number = {label.code: i for i, label in enumerate(own)}
            keys = [class_code(dict(row.cells), number) for row in rows]
        for row, key in zip(rows, keys, strict=True):
            if key not in number:
                what = f"{task} {key!r} is in split {row.split}, and none of the {len(number)} that are learnt"
                raise CorpusError(f"line {row.line}: {what}. {REMEDY}")
        found[task] = np.array([number[key] for key in keys], np.int64)
    return found


def languages_among(rows: Sequence[Row]) -> tuple[Label, ...]:
    """The languages of the rows by code. Raises CorpusError unless there are two."""
    codes = sorted({code for row in rows if (code := row.cells.get(LANGUAGE, "").strip())})
    named = {label.code: label for label in WORLD_LABELS}
    return _two_at_least(LANGUAGE, [named.get(code, Label(code=code, iso639_3=None, name=code)) for code in codes])


def artists_among(rows: Sequence[Row]) -> tuple[Label, ...]:
    """The artists of the rows by name. Raises CorpusError unless there are two."""
    names = {artist_key(row.metadata.artist): " ".join(row.metadata.artist.split()) for row in rows if row.metadata.artist}
    labels: dict[str, Label] = {}
    for key, name in sorted(names.items()):
        code = CODE.sub("-", key).strip("-")[:56] or "artist"
        code = code if code not in labels else f"{code}-{len(labels)}"
        labels[code] = Label(code=code, iso639_3=None, name=name)
    return _two_at_least("artist", list(labels.values()))


def _two_at_least(column: str, labels: list[Label]) -> tuple[Label, ...]:
    if len(labels) < 2:
        raise CorpusError(f"column {column!r} names {len(labels)} in split train; a classifier needs two at least")
    return tuple(labels)
