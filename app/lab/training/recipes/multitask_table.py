"""Singh & Biswas's measures and their table 1: areas under the ROC and the precision-recall curve, task by task.

Each class against the rest, and the mean over the classes that the rows hold. *Segments* are the paper's: 3 s of two
one-minute pieces of a song. *Songs* are answered as served: the mean over segments from the middle of the song.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.audio.windows import fit_window
from app.domain import AUDIO, FloatArray
from app.families.contract import Model
from app.families.multitask.manifest import SegmentConfig, TaskName
from app.families.multitask.model import MultitaskModel
from app.lab import markdown as md
from app.lab.caches import Decoder, made
from app.lab.corpus.catalogue import Row
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import EvaluationSet, read_inputs
from app.lab.features import FeatureExtractor
from app.lab.progress import Progress
from app.lab.training.recipe import IntArray
from app.lab.training.recipes.multitask_data import classes_of_rows, starts

ROMAN: dict[TaskName, str] = {"artist": "I", "language": "II"}  # as the paper numbers its rows
HEADS = ("model", "task", "release", "classes", "songs", "segments", "AUC-ROC (%)", "AUC-PR (%)")
HEADS_OF_SONGS = ("songs: AUC-ROC", "AUC-PR", "accuracy")
Areas = dict[str, float]  # in percent, as the paper prints them: "roc", "pr"


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """Holds how right a release is in one task."""

    release: str
    tasks: int  # that it has learnt
    task: TaskName
    n_classes: int
    n_songs: int
    n_segments: int
    segments: Areas
    songs: Areas
    accuracy: float  # of songs

    @property
    def percent(self) -> list[float]:
        """Lists the areas in the order of the table."""
        return [*self.segments.values(), *self.songs.values()]


def areas(labels: IntArray, probabilities: FloatArray) -> Areas:
    """(n,) and (n, n_classes) → the areas. Raises CorpusError where all rows are of one class."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    occurring = np.unique(labels)
    if len(occurring) < 2:
        raise CorpusError("all rows are of one class; areas under curves need rows of two at least")
    truth, scores = labels[:, None] == occurring, probabilities[:, occurring]
    return {"roc": 100 * float(roc_auc_score(truth, scores)), "pr": 100 * float(average_precision_score(truth, scores))}


def figures_of(model: Model, rows: Sequence[Row], chosen: EvaluationSet, progress: Progress) -> list[TaskFigures]:
    """Measures each task of the release. Raises CorpusError naming the row that cannot be used."""
    assert isinstance(model, MultitaskModel)
    extractor = chosen.extractor(model)
    assert extractor is not None
    name, truth = f"{model.manifest.family}/{model.manifest.release}", classes_of_rows(rows, model.manifest.classes)
    segments = _segments(model.manifest.listen, rows, extractor, progress)
    of_song = np.repeat(np.arange(len(rows)), [len(logits) for logits in segments])
    by_segment = model.posteriors(np.concatenate(segments))
    served = [model.posteriors(found.features[AUDIO]) for found in read_inputs(model, rows, extractor, progress)]
    found = []
    for task, labels in truth.items():
        songs = np.stack([posteriors[task].mean(axis=0) for posteriors in served])
        counts = len(truth), task, model.manifest.sizes[task], len(rows), len(of_song)
        measured = areas(labels[of_song], by_segment[task]), areas(labels, songs)
        found.append(TaskFigures(name, *counts, *measured, float((songs.argmax(axis=1) == labels).mean())))
    return found


def _segments(
    listen: SegmentConfig, rows: Sequence[Row], extractor: FeatureExtractor, progress: Progress
) -> list[FloatArray]:
    """(n_segments, n_features) of each row's pieces."""
    decode, size = Decoder(listen.piece, listen.pieces), listen.segment_samples
    found = []
    for row in progress.each("segments", rows):
        song = made(row, decode)
        windows = [fit_window(song[start:], size, "silence") for start in starts(len(song), size)]
        found.append(extractor.windows(windows))
    return found


def table(lines: Sequence[TaskFigures]) -> str:
    """Baselines, then the release beside them, as the paper's table 1; differences in percent points."""
    baseline = {line.task: line.percent for line in lines if line.tasks == 1}
    rows = []
    for line in sorted(lines, key=lambda line: (line.tasks, line.task)):
        kind, cells = "Baseline", [f"{value:.2f}" for value in line.percent]
        if line.tasks > 1:
            kind = f"Multi-task {ROMAN[line.task]}"
            beside = zip(cells, line.percent, baseline.get(line.task, ()), strict=False)
            cells = [f"{cell} ({value - before:+.2f})" for cell, value, before in beside] or cells
        rows.append((kind, line.task, line.release, line.n_classes, line.n_songs, line.n_segments, *cells, line.accuracy))
    return md.table([*HEADS, *HEADS_OF_SONGS], rows) + "\n"
