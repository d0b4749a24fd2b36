"""Songs with a genre: waveforms on disk, principal words in memory; either may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.audio.spec import WindowRequest
from app.audio.windows import fit_window
from app.domain import LYRICS, FloatArray
from app.families.genre.manifest import SeeConfig
from app.families.genre.words import WordReader, Words
from app.lab.caches import Decoder, Waveforms
from app.lab.corpus.catalogue import Row, classes_of, read_catalogue
from app.lab.corpus.check import check_rows
from app.lab.errors import CorpusError
from app.lab.features import cache_folder
from app.lab.progress import Progress

IntArray = npt.NDArray[np.int64]
GENRE = "genre"


@dataclass(frozen=True, slots=True)
class Songs:
    """Rows of one split."""

    rows: list[Row]
    words: list[Words]
    waveforms: Waveforms | None  # None: nothing is listened to
    window_samples: int

    @property
    def labels(self) -> IntArray:
        return np.array([row.label for row in self.rows], np.int64)

    def samples(self, numbers: IntArray, rng: np.random.Generator | None = None) -> FloatArray:
        """(n, window_samples): a window from anywhere, without `rng` from the middle; zeros where there is no audio."""
        return np.stack([self._window(self.rows[i], rng) for i in numbers.tolist()])

    def _window(self, row: Row, rng: np.random.Generator | None) -> FloatArray:
        size = self.window_samples
        if row.path is None or self.waveforms is None:
            return np.zeros(size, np.float32)
        spare = max(0, self.waveforms.length(row) - size)
        start = spare // 2 if rng is None else int(rng.integers(spare + 1))
        return fit_window(self.waveforms.read(row, start, size), size, "silence")

    def word_numbers(self, numbers: IntArray) -> Tensor:
        """(n, t), followed by zeros."""
        chosen = [self.words[i] for i in numbers.tolist()]
        padded = np.zeros((len(chosen), max(1, *map(len, chosen))), np.int64)
        for row, words in zip(padded, chosen, strict=True):
            row[: len(words)] = words
        return torch.from_numpy(padded)


def genres_of(catalogue: Path) -> list[str]:
    """All that stand in the column, in alphabetical order."""
    return classes_of(catalogue, GENRE)


def rows_by_split(catalogue: Path, codes: Sequence[str], used: frozenset[str]) -> tuple[list[Row], list[Row]]:
    """Rows to train on and to validate on that have any of these modalities. Raises CorpusError naming the row."""
    rows = read_catalogue(catalogue, codes, column=GENRE)
    for finding in check_rows(rows, codes):
        if finding.kind == "track_in_two_splits":
            raise CorpusError(str(finding))
    kept = [row for row in rows if ("audio" in used and row.path) or (LYRICS in used and lyrics_of(row))]
    train, valid = ([row for row in kept if row.split == split] for split in ("train", "valid"))
    if not train or not valid:
        raise CorpusError(f"{catalogue}: songs with {' or '.join(sorted(used))} are needed in the splits train and valid")
    if absent := set(codes) - {codes[row.label] for row in train}:
        raise CorpusError(f"{catalogue}: genre {min(absent)!r} has no song in split train; add some, or leave it out")
    return train, valid


def lyrics_of(row: Row) -> str:
    return row.cells.get(LYRICS, "").strip()


def songs_of(rows: list[Row], see: SeeConfig | None, read: WordReader | None, cache: Path, progress: Progress) -> Songs:
    """Decodes what is not in the cache yet. Raises CorpusError naming the row."""
    words = [read(lyrics_of(row)) if read else np.zeros(0, np.int64) for row in rows]
    if see is None:
        return Songs(rows, words, None, 0)
    heard = [row for row in rows if row.path is not None]
    waveforms = Waveforms(cache_folder(cache, WindowRequest(see.window, see.served_windows), "waveforms"))
    with progress.counting("decoding", len(heard)) as advance:
        waveforms.add(heard, Decoder(see.window, see.served_windows), advance)
    return Songs(rows, words, waveforms, see.window_samples)
