"""Holds what recipes that learn from whole songs share: rows by split, their audio on disk, windows of it, figures."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from app.audio.spec import WindowRequest, WindowSpec
from app.audio.windows import fit_window
from app.domain import FloatArray
from app.families.contract import Model
from app.families.parts.weights import COUNTER
from app.families.store import load_model
from app.lab.caches import Decoder, Waveforms
from app.lab.corpus.catalogue import LANGUAGE, Row, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.evaluate import describe, describe_release, write_report
from app.lab.features import cache_folder
from app.lab.progress import Progress
from app.lab.training.loop import Recipe
from app.lab.training.recipe import C, Figures, IntArray


def has_audio(row: Row) -> bool:
    return row.path is not None


def songs_to_learn(
    catalogue: Path,
    codes: Sequence[str] | None = None,
    column: str = LANGUAGE,
    has: Callable[[Row], bool] = has_audio,
    what: str = "audio",
) -> tuple[list[Row], list[Row]]:
    """Returns the rows of the splits train and valid that have what is learnt from.

    An artist may be in both, a track may not. Raises CorpusError naming the row.
    """
    rows = read_catalogue(catalogue, codes, column=column)
    refuse_leaks(rows, codes or (), {"track_in_two_splits"})
    train, valid = ([row for row in rows if row.split == split and has(row)] for split in ("train", "valid"))
    if not train or not valid:
        raise CorpusError(f"{catalogue}: songs with {what} are needed in the splits train and valid")
    return train, valid


@dataclass(frozen=True)
class Clips:
    """Holds the rows of a split, and what was decoded of their audio, on disk."""

    rows: list[Row]
    waveforms: Waveforms
    heard: WindowSpec  # at once, by the network

    @classmethod
    def decoded(
        cls, rows: list[Row], request: WindowRequest, heard: WindowSpec, cache: Path, progress: Progress, **more: Any
    ) -> Self:
        """Decodes what is not in the cache yet; `more` are fields of a derived class. Raises CorpusError naming the row."""
        waveforms = Waveforms(cache_folder(cache, request, "waveforms"))
        with_audio = [row for row in rows if has_audio(row)]
        waveforms.add(progress.each("decoding", with_audio), Decoder(request.spec, request.max_windows))
        return cls(rows, waveforms, heard, **more)

    def length(self, number: int) -> int:
        """Counts the samples of a row's audio; 0 where it has none."""
        row = self.rows[number]
        return self.waveforms.length(row) if has_audio(row) else 0

    def window(self, number: int, start: int) -> FloatArray:
        """Returns (window_samples,) of a row from a sample on, filled up as in serving; zeros where it has no audio."""
        size = self.heard.window_samples
        if not has_audio(self.rows[number]):
            return np.zeros(size, np.float32)
        return fit_window(self.waveforms.read(self.rows[number], start, size), size, self.heard.padding)

    def windows(self, places: IntArray) -> FloatArray:
        """Turns (n, 2) rows and first samples into (n, window_samples)."""
        return np.stack([self.window(*place) for place in places.tolist()])

    @cached_property
    def labels(self) -> IntArray:
        """Returns (n_rows,)."""
        return np.array([row.label for row in self.rows], np.int64)

    def starts(self, number: int) -> range:
        """Returns the first sample of each window of a row, one window after the other."""
        return range(0, self.length(number), self.heard.window_samples)

    def drawn(self, numbers: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draws one of the windows of each row, as `starts` has them: (n, window_samples)."""
        return self.windows(np.array([(number, rng.choice(self.starts(number))) for number in numbers.tolist()]))

    def crops(self, numbers: IntArray, rng: np.random.Generator | None = None) -> FloatArray:
        """Draws a window from anywhere in each row, without `rng` from the middle: (n, window_samples)."""
        spare = [max(0, self.length(number) - self.heard.window_samples) for number in numbers.tolist()]
        starts = [most // 2 if rng is None else int(rng.integers(most + 1)) for most in spare]
        return self.windows(np.stack([numbers, starts], axis=1))

    def fingerprint(self) -> str:
        """Hashes rows and audio; the same audio may lie elsewhere."""
        rows = json.dumps([{**row.cells, "path": ""} for row in self.rows])
        heard = self.waveforms.fingerprint([row for row in self.rows if has_audio(row)])
        return hashlib.sha256(f"{heard} {rows}".encode()).hexdigest()[:16]


class SongRecipe(Recipe[C]):
    """Learns from songs."""

    songs: Clips  # to train on
    valid: Clips

    def fingerprint(self) -> str:
        return self.songs.fingerprint() + self.valid.fingerprint()


class MeasuringRecipe(Recipe[C]):
    """Has the measures and a table of a paper's own, for the card of a release and for `lrid evaluate`."""

    @classmethod
    @abstractmethod
    def figures(cls, models: Sequence[Model], chosen: EvaluationSet, progress: Progress) -> Figures:
        """Measures the last model beside those it is compared with. Raises CorpusError naming a row that cannot be heard."""

    @classmethod
    def compared_with(cls, folder: Path) -> list[Path]:
        """Finds releases whose figures stand beside those of the one in `folder`."""
        return []

    @classmethod
    def evaluate(cls, folder: Path, chosen: EvaluationSet, output: Path, progress: Progress) -> str:
        """Writes evaluation.json and evaluation.md. Raises ReleaseError, CorpusError."""
        models = [load_model(each) for each in (*cls.compared_with(folder), folder)]
        found = cls.figures(models, chosen, progress)
        said = {"release": describe_release(models[-1].manifest), "data": describe(chosen, found.rows)}
        page = f"{said['release']} on {said['data']} \n\n{found.page}"
        write_report(output, said | found.plain, page + "\n")
        return page


def in_parts(n: int, at_once: int, compute: Callable[[IntArray], Tensor]) -> Tensor:
    """Calls `compute` on the numbers from 0 to n - 1, `at_once` at most, and joins the results."""
    return torch.cat([compute(part) for part in np.array_split(np.arange(n), -(-n // at_once))])


def class_mix(labels: IntArray, codes: Sequence[str]) -> dict[str, float]:
    """Returns the share of each class among (n,) labels."""
    counts = np.bincount(labels, minlength=len(codes))
    return dict(zip(codes, (counts / counts.sum()).round(5).tolist(), strict=True))


def stored_tensors(stored: dict[str, Any]) -> dict[str, Tensor]:
    """Returns a checkpoint's weights as a release stores them, in fp32; `checkpoint.load` has found them finite."""
    return {name: tensor.float().contiguous() for name, tensor in stored["network"].items() if COUNTER not in name}
