"""Learns artist and language by one network (Singh & Biswas), or either alone as their baseline. Read `loss` first.

An example is a segment: every segment of every song is heard once per epoch. The measures and table 1 are the paper's: areas
under the ROC and the precision-recall curve of each class against the rest, and their mean over the classes that the rows
hold. *Segments* are the paper's, 3 s of two one-minute pieces of a song. *Songs* are answered as served: the mean over
segments from the middle of the song.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from app.audio.spec import WindowRequest
from app.audio.windows import fit_window
from app.domain import AUDIO, FloatArray
from app.families.contract import Label, Model
from app.families.multitask.manifest import BlockConfig, MultitaskManifest, SegmentConfig, TaskName
from app.families.multitask.model import MultitaskModel
from app.families.multitask.network import LogMel, MultitaskNetwork
from app.families.store import MANIFEST, read_manifest
from app.lab import markdown as md
from app.lab.caches import Decoder, made
from app.lab.corpus.catalogue import LANGUAGE, Row
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import EvaluationSet, read_inputs
from app.lab.features import FeatureExtractor
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Figures, IntArray
from app.lab.training.recipes.multitask_data import Segments, classes_of_rows, labels_among, starts
from app.lab.training.recipes.songs import MeasuringRecipe, SongRecipe, class_mix, in_parts, songs_to_learn, stored_tensors

SEGMENTS_AT_ONCE = 64
REFIT_BATCHES = 8  # that batch norm's statistics are the average of
ROMAN: dict[TaskName, str] = {"artist": "I", "language": "II"}  # as the paper numbers its rows
HEADS = ("model", "task", "release", "classes", "songs", "segments", "AUC-ROC (%)", "AUC-PR (%)")
HEADS_OF_SONGS = ("songs: AUC-ROC", "AUC-PR", "accuracy")
Areas = dict[str, float]  # in percent, as the paper prints them: "roc", "pr"


class MultitaskConfig(TrainConfig):
    """Defaults are the paper's where it states them (§3.2)."""

    labels: tuple[Label, ...] = ()  # languages; (): all in split train
    tasks: Literal["both", "artist", "language"] = "both"  # one alone is the paper's baseline
    alpha: float | None = Field(None, ge=0)  # of the language's loss beside the artist's; None: N_artist / N_lang
    listen: SegmentConfig = SegmentConfig()
    blocks: BlockConfig = BlockConfig()

    @property
    def task_names(self) -> tuple[TaskName, ...]:
        return get_args(TaskName) if self.tasks == "both" else (self.tasks,)


class MultitaskRecipe(MeasuringRecipe[MultitaskConfig], SongRecipe[MultitaskConfig]):
    """Trains five shared blocks, and an output layer for each task."""

    name: ClassVar[str] = "multitask"
    family: ClassVar[str] = "multitask"
    config_type: ClassVar[type[TrainConfig]] = MultitaskConfig
    songs: Segments
    valid: Segments

    def prepare(self, progress: Progress) -> None:
        config = self.config
        train, valid = songs_to_learn(config.catalogue)
        given = {LANGUAGE: config.labels}
        self.labels = {task: given.get(task) or labels_among(train, task) for task in config.task_names}
        listen, classes = config.listen, [classes_of_rows(rows, self.labels) for rows in (train, valid)]
        cut = (WindowRequest(listen.piece, listen.pieces), listen.window, config.cache_folder, progress)
        self.songs = Segments.decoded(train, *cut, classes=classes[0])
        self.valid = Segments.decoded(valid, *cut, classes=classes[1])
        self.n_examples = len(self.songs.places)
        self._log_mel = LogMel(listen).to(config.torch_device)

    @property
    def alpha(self) -> float:
        """Weighs L_lang in L = L_artist + alpha L_lang (§3.2.4)."""
        given = self.config.alpha
        return len(self.labels["artist"]) / len(self.labels["language"]) if given is None else given

    @property
    def sizes(self) -> dict[str, int]:
        return {task: len(labels) for task, labels in self.labels.items()}

    def build(self) -> MultitaskNetwork:
        network = MultitaskNetwork(self.config.listen, self.config.blocks.channels, self.sizes)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns L_artist + alpha L_lang, or the loss of the only task."""
        return self._loss(network(self._heard(self.songs, batch)), self.songs, batch)

    def _loss(self, logits: Tensor, songs: Segments, numbers: IntArray) -> Tensor:
        weights = {"language": self.alpha} if len(self.labels) == 2 else {}
        losses = [
            weights.get(task, 1.0) * cross_entropy(own, self.tensor(songs.classes_of(numbers, task)))
            for task, own in self._by_task(logits).items()
        ]
        return torch.stack(losses).sum()

    def _heard(self, songs: Segments, numbers: IntArray) -> Tensor:
        """Returns (n, 1, 187, 96)."""
        log_mel: Tensor = self._log_mel(self.tensor(songs.windows(songs.places[numbers])))
        return log_mel.contiguous(memory_format=torch.channels_last)

    def _by_task(self, logits: Tensor) -> dict[TaskName, Tensor]:
        return dict(zip(self.labels, torch.split(logits, list(self.sizes.values()), dim=1), strict=True))

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures loss and accuracy by task over all segments, once batch norm is fitted to the network without dropout."""
        refit_batch_norm(network, (self._heard(self.songs, some) for some in islice(self.batches(0), REFIT_BATCHES)))
        numbers = np.arange(len(self.valid.places))
        logits = in_parts(len(numbers), SEGMENTS_AT_ONCE, lambda part: network(self._heard(self.valid, part)))
        scores = {"loss": self._loss(logits, self.valid, numbers).item()}
        for task, own in self._by_task(logits).items():
            right = own.argmax(dim=1) == self.tensor(self.valid.classes_of(numbers, task))
            scores[f"accuracy_{task}"] = right.float().mean().item()
        return scores

    def facts(self) -> dict[str, Any]:
        """Returns plain values: labels as JSON, counts, and the class mix of the segments."""
        main = self.config.task_names[0]
        heard = self.songs.classes_of(np.arange(self.n_examples), main)
        return {
            "labels": json.dumps({task: [label.model_dump() for label in own] for task, own in self.labels.items()}),
            "rows": {"audio": len(self.songs.rows)},
            "segments": self.n_examples,
            "class_prior": class_mix(heard, [label.code for label in self.labels[main]]),
            "alpha": self.alpha if len(self.labels) == 2 else None,
        }

    def export(self, stored: dict[str, Any]) -> Draft:
        """Stores all weights in fp32: under a megabyte."""
        facts = dict(stored["facts"])
        labels = {task: [Label(**one) for one in own] for task, own in json.loads(facts.pop("labels")).items()}
        main, *others = labels
        manifest = MultitaskManifest(
            **self.unnamed(labels[main], {"tasks": list(labels), **facts}),
            asks=main,
            artists=labels[others[0]] if others else [],
            listen=self.config.listen,
            blocks=self.config.blocks,
        )
        about = f"Multitask network (Singh & Biswas 2021), learnt: {' and '.join(labels)}"
        return Draft(manifest, stored_tensors(stored), about, calibrated=True, measure=self.figures)

    @classmethod
    def compared_with(cls, folder: Path) -> list[Path]:
        """For a release with two tasks, finds the newest beside it that has learnt either alone, with the same classes."""
        places = [place for place in folder.parent.iterdir() if (place / MANIFEST).is_file()]
        manifests = {place: cast(MultitaskManifest, read_manifest(place)) for place in places}
        own, found = manifests[folder].classes, {}
        for place, other in sorted(manifests.items(), key=lambda item: item[1].created):
            task, labels = next(iter(other.classes.items()))
            if len(own) > 1 and len(other.classes) == 1 and labels == own[task]:
                found[task] = place
        return list(found.values())

    @classmethod
    def figures(cls, models: Sequence[Model], chosen: EvaluationSet, progress: Progress) -> Figures:
        """Measures the tasks, and writes the paper's table 1."""
        rows = chosen.rows_with_audio()
        by_model = [figures_of(model, rows, chosen, progress) for model in models]
        lines = [line for own in by_model for line in own]
        summary = {"rows": len(rows)} | {line.task: asdict(line) for line in by_model[-1]}
        return Figures({"audio_only": summary}, table(lines), {"lines": [asdict(line) for line in lines]}, rows)


@torch.no_grad()
def refit_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replaces running means and variances by their averages over these batches; leaves the network in evaluation mode.

    While a network trains, dropout makes the inputs of later layers vary more than they do afterwards (Li et al. 2019,
    "Understanding the Disharmony between Dropout and Batch Normalization by Variance Shift"), and running averages lag
    behind the weights.
    """
    norms = [module for module in network.eval().modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average
        norm.train()
    for batch in batches:
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


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
    """Measures the areas of (n, n_classes) for (n,) labels. Raises CorpusError where all rows are of one class."""
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
    """Returns (n_segments, n_features) of each row's pieces."""
    decode, size = Decoder(listen.piece, listen.pieces), listen.segment_samples
    found = []
    for row in progress.each("segments", rows):
        song = made(row, decode)
        windows = [fit_window(song[start:], size, "silence") for start in starts(len(song), size)]
        found.append(extractor.windows(windows))
    return found


def table(lines: Sequence[TaskFigures]) -> str:
    """Writes baselines, then the release beside them, as the paper's table 1, with differences in percent points."""
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
