"""What a recipe brings to the training loop, and the settings that every training has. README.md says how to add one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from app.families.contract import Label, Manifest, Model, Strict
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.evaluate import Options, evaluate
from app.lab.evaluation.report import markdown
from app.lab.labels import PAPER_LABELS
from app.lab.progress import Progress


class RunConfig(Strict):
    """Settings of everything that learns. All of them decide the result, but for those in `MAY_CHANGE`."""

    catalogue: Path  # rows to train on and to validate on: CSV, TSV or Parquet
    output: Path = Path("runs/train")  # checkpoints and what tells how it went
    cache: Path | None = None  # what is computed once for a catalogue; default: output / "cache"
    labels: tuple[Label, ...] = PAPER_LABELS
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0)  # of torch on the CPU; 0 = its default
    resume: bool = False  # go on from last.pt, to the same result

    @property
    def codes(self) -> list[str]:
        return [label.code for label in self.labels]

    @property
    def cache_folder(self) -> Path:
        return self.cache or self.output / "cache"

    @property
    def torch_device(self) -> torch.device:
        cuda = self.device == "cuda" or (self.device == "auto" and torch.cuda.is_available())
        return torch.device("cuda" if cuda else "cpu")


class TrainConfig(RunConfig):
    """Settings of what the training loop trains."""

    epochs: int = Field(200, ge=1)
    patience_epochs: int = Field(20, ge=1)  # without a better validation loss (Choi & Wang 2021, §4.2)
    restarts: int = Field(0, ge=0)  # early stops after which training goes on from the best checkpoint
    steps_per_epoch: int = Field(0, ge=0)  # 0 = one pass over the rows
    batch_size: int = Field(32, ge=2)  # rows
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    init_from: Path | None = None  # checkpoint whose weights to start from
    checkpoint_minutes: float = Field(10.0, ge=0)  # inside an epoch; one is written after each epoch anyway


MAY_CHANGE = frozenset({  # between a training and its `resume`
    "catalogue", "output", "cache", "store", "init_from", "patience_epochs", "restarts", "checkpoint_minutes", "threads",
    "device", "resume",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a release, in a family's own measures."""

    metrics: dict[str, dict[str, Any]]  # for the manifest: by mode, then by name of the set of rows
    page: str  # for the card, as Markdown


Measure = Callable[[Model, Sequence[EvaluationSet], Progress], Figures]


@dataclass(frozen=True, slots=True)
class Draft:
    """A release before it is calibrated, measured and published."""

    manifest: Manifest  # its hash is set when the weights are written
    tensors: dict[str, Tensor]
    about: str  # what kind of network, for the card
    notes: dict[str, str] = field(default_factory=dict)  # further sections of the card: title → Markdown
    calibrated: bool = False  # the recipe has fitted temperatures and thresholds itself
    measure: Measure | None = None  # instead of the figures of a single label in the paper's cases


R = TypeVar("R", bound=RunConfig)
C = TypeVar("C", bound=TrainConfig)
B = TypeVar("B")  # a batch: small, such as row numbers; `loss` makes tensors of it


class Trainable(ABC, Generic[R]):
    """What the command line and the release maker know of a recipe. What is fitted without a loop derives from this."""

    name: ClassVar[str]
    family: ClassVar[str]  # of the releases it makes
    config_type: ClassVar[type[RunConfig]]

    def __init__(self, config: R) -> None:
        self.config = config

    @property
    def measured_on(self) -> Path | None:
        """The catalogue whose rows of split `valid` a release is calibrated and measured on."""
        return self.config.catalogue

    @abstractmethod
    def train(self, progress: Progress) -> Path:
        """The best checkpoint, in `config.output`. Raises CorpusError, TrainingError."""

    @abstractmethod
    def export(self, stored: dict[str, Any]) -> Draft:
        """A checkpoint as a release to be. Raises CheckpointError."""

    @classmethod
    def evaluate(cls, folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
        """Measure the release in `folder`, write a report to `output`, and say it in Markdown. Raises CorpusError."""
        return markdown(evaluate(folder, chosen, output, options, progress))


class Recipe(Trainable[C], Generic[C, B]):
    """One kind of network and how it is trained. The loop calls `prepare` and `build` once, in this order."""

    def train(self, progress: Progress) -> Path:
        from app.lab.training.loop import train

        return train(self, progress)

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Read the catalogue and fill the caches. Raises CorpusError naming the row that cannot be used."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with its first weights, on the CPU."""

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam, as the paper. The loop multiplies each group's `lr` by the schedule."""
        return torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=self.config.learning_rate)

    def share_in_epoch(self, step: int) -> float:
        """Of the scheduled learning rate, in a step of an epoch, counted from 0."""
        return 1.0

    def share_after_stop(self, early_stops: int) -> float:
        """Of the learning rate so far, when training goes on after an early stop; `early_stops` came before it."""
        return 1.0

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int: ...

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[B]:
        """`steps_per_epoch` batches, the same for the same seed and epoch."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: B, rng: np.random.Generator) -> Tensor:
        """A scalar. All randomness comes from `rng` and torch's generator, which are seeded for each step."""

    @abstractmethod
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Figures of the validation rows; `loss` among them, which early stopping watches."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Of the rows and the audio that are learnt from: `resume` refuses others."""

    def facts(self) -> dict[str, Any]:
        """What the release says of its training data; plain values, kept in the checkpoint."""
        return {}
