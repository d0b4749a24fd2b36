"""Singh & Biswas's measures and their table 1: areas under the ROC and the precision-recall curve, task by task.

Each class against the rest, and the mean over the classes that the rows hold. *Segments* are the paper's: 3 s of two
one-minute pieces of a song. *Songs* are answered as served: the mean over segments from the middle of the song.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from app.domain import AUDIO, FloatArray
from app.families.contract import Model, mode_name
from app.families.multitask.manifest import MultitaskManifest, TaskName
from app.families.multitask.model import MultitaskModel
from app.families.store import MANIFEST, load_model, read_manifest
from app.lab.caches import made
from app.lab.corpus.catalogue import Row
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import EvaluationSet, read_inputs
from app.lab.evaluation.evaluate import Options, describe, write_report
from app.lab.features import FeatureExtractor
from app.lab.progress import Progress
from app.lab.training.recipe import Figures
from app.lab.training.recipes.multitask_data import IntArray, Pieces, classes_of_rows

ROMAN: dict[TaskName, str] = {"artist": "I", "language": "II"}  # as the paper numbers its rows


@dataclass(frozen=True, slots=True)
class Areas:
    """In percent, as the paper prints them."""

    roc: float
    pr: float


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """How right a release is in one task."""

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
    def percent(self) -> tuple[float, ...]:
        """The areas in the order of the table."""
        return (self.segments.roc, self.segments.pr, self.songs.roc, self.songs.pr)


def areas(labels: IntArray, probabilities: FloatArray) -> Areas:
    """(n,) and (n, n_classes) → the areas. Raises CorpusError where all rows are of one class."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    occurring = np.unique(labels)
    if len(occurring) < 2:
        raise CorpusError("all rows are of one class; areas under curves need rows of two at least")
    truth, scores = labels[:, None] == occurring, probabilities[:, occurring]
    return Areas(100 * float(roc_auc_score(truth, scores)), 100 * float(average_precision_score(truth, scores)))


def figures_of(model: Model, rows: Sequence[Row], options: Options, progress: Progress) -> list[TaskFigures]:
    """One for each task of the release. Raises CorpusError naming the row that cannot be used."""
    assert isinstance(model, MultitaskModel)
    assert model.audio is not None
    manifest, extractor = model.manifest, FeatureExtractor(model.audio, options.target)
    truth = classes_of_rows(rows, manifest.classes)
    pieces = Pieces(manifest.listen)
    with progress.counting("segments", len(rows)) as advance:
        segments = []
        for row in rows:
            segments.append(extractor.windows(pieces.cut(made(row, pieces.decode))))  # (n_segments, n_features)
            advance(1)
    of_song = np.repeat(np.arange(len(rows)), [len(logits) for logits in segments])
    by_segment = model.posteriors(np.concatenate(segments))
    served = [model.posteriors(found.features[AUDIO]) for found in read_inputs(model, rows, extractor, progress)]
    found = []
    for task, labels in truth.items():
        songs = np.stack([posteriors[task].mean(axis=0) for posteriors in served])
        found.append(
            TaskFigures(
                release=f"{manifest.family}/{manifest.release}",
                tasks=len(truth),
                task=task,
                n_classes=manifest.sizes[task],
                n_songs=len(rows),
                n_segments=len(of_song),
                segments=areas(labels[of_song], by_segment[task]),
                songs=areas(labels, songs),
                accuracy=float((songs.argmax(axis=1) == labels).mean()),
            )
        )
    return found


def table(lines: Sequence[TaskFigures]) -> str:
    """Baselines, then the release beside them, as the paper's table 1; differences in percent points."""
    baseline = {line.task: line.percent for line in lines if line.tasks == 1}
    rows = [
        "| model | task | release | classes | songs | segments | AUC-ROC (%) | AUC-PR (%) "
        "| songs: AUC-ROC | AUC-PR | accuracy |",
        "|---" * 11 + "|",
    ]
    for line in sorted(lines, key=lambda line: (line.tasks, line.task)):
        kind, cells = "Baseline", [f"{value:.2f}" for value in line.percent]
        if line.tasks > 1:
            kind = f"Multi-task {ROMAN[line.task]}"
            beside = zip(cells, line.percent, baseline.get(line.task, ()), strict=False)
            cells = [f"{cell} ({value - before:+.2f})" for cell, value, before in beside] or cells
        counts = f"{line.n_classes} | {line.n_songs} | {line.n_segments}"
        rows.append(f"| {kind} | {line.task} | {line.release} | {counts} | {' | '.join(cells)} | {line.accuracy:.3f} |")
    return "\n".join(rows) + "\n"


def measure_release(model: Model, sets: Sequence[EvaluationSet], progress: Progress) -> Figures:
    """For the manifest and the card of a new release."""
    metrics: dict[str, Any] = {}
    page = []
    for chosen in sets:
        lines = figures_of(model, rows_of(chosen), Options(), progress)
        metrics[chosen.name] = {"rows": lines[0].n_songs} | {line.task: asdict(line) for line in lines}
        page.append(f"### {chosen.name}\n{chosen.note}\n\n{table(lines)}")
    return Figures({mode_name(frozenset({AUDIO})): metrics}, "\n\n".join(page))


def write_table(folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
    """evaluation.md and evaluation.json of the release in `folder`, and of the baselines that lie beside it."""
    rows = rows_of(chosen)
    folders = [*baselines(folder), folder]
    lines = [line for each in folders for line in figures_of(load_model(each), rows, options, progress)]
    text = table(lines)
    write_report(output, [asdict(line) for line in lines], f"{describe(chosen, rows)} {chosen.note}\n\n{text}")
    return text


def rows_of(chosen: EvaluationSet) -> list[Row]:
    """Rows with audio. Raises CorpusError if there are none."""
    rows = [row for row in chosen.rows(None) if row.path is not None]
    if not rows:
        raise CorpusError(f"set {chosen.name!r}: {chosen.catalogue} has no rows with audio in these splits")
    return rows


def baselines(folder: Path) -> list[Path]:
    """Of a release with two tasks: the newest beside it that has learnt either alone, with the same classes."""
    places = [place for place in folder.parent.iterdir() if (place / MANIFEST).is_file()]
    manifests = {place: cast(MultitaskManifest, read_manifest(place)) for place in places}
    own, found = manifests[folder].classes, {}
    for place, other in sorted(manifests.items(), key=lambda item: item[1].created):
        task, labels = next(iter(other.classes.items()))
        if len(own) > 1 and len(other.classes) == 1 and labels == own[task]:
            found[task] = place
    return list(found.values())
