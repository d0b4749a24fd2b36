"""Defines what the command line and the release maker know of a recipe. README.md says how to add one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from app.families.contract import Label, Manifest, Model
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.evaluate import evaluate
from app.lab.evaluation.report import markdown
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.config import RunConfig
from app.lab.training.learner import B, C, Learner
from app.lab.training.loop import train


@dataclass(frozen=True, slots=True)
class Figures:
    """Holds what was measured of a release on one set of rows."""

    by_mode: dict[str, dict[str, Any]]  # for the manifest
    page: str  # for the card, as Markdown
    plain: dict[str, Any] = field(default_factory=dict)  # for evaluation.json


Measure = Callable[[Model, EvaluationSet, Progress], Figures]


@dataclass(frozen=True, slots=True)
class Draft:
    """Describes a release before it is calibrated, measured and published."""

    manifest: Manifest  # its hash is set when the weights are written
    tensors: dict[str, Tensor]
    about: str  # what kind of network, for the card
    notes: dict[str, str] = field(default_factory=dict)  # further sections of the card: title → Markdown
    calibrated: bool = False  # the recipe has fitted temperatures and thresholds itself
    measure: Measure | None = None  # instead of the figures of a single label in the paper's cases
    golden: Sequence[Mapping[str, Any]] = ()  # further inputs of golden.json, such as words that the release knows


R = TypeVar("R", bound=RunConfig)


class Trainable(ABC, Generic[R]):
    """Is all that the command line and the release maker know. What is fitted without a loop derives from this."""

    name: ClassVar[str]
    family: ClassVar[str]  # of the releases it makes
    config_type: ClassVar[type[RunConfig]]

    def __init__(self, config: R) -> None:
        self.config = config

    @property
    def measured_on(self) -> Path | None:
        """Names the catalogue whose rows of split `valid` a release is calibrated and measured on."""
        return self.config.catalogue

    @abstractmethod
    def train(self, progress: Progress) -> Path:
        """Trains, and returns the best checkpoint, in `config.output`. Raises CorpusError, TrainingError."""

    @abstractmethod
    def export(self, stored: dict[str, Any]) -> Draft:
        """Makes a draft of a release from a checkpoint. Raises CheckpointError."""

    @classmethod
    def unnamed(cls, labels: Sequence[Label], training: dict[str, Any]) -> dict[str, Any]:
        """Returns what every manifest holds, for a release that has no name, hash and figures yet."""
        described = {"family": cls.family, "release": "draft", "created": date.today(), "sha256": "0" * 64}
        return described | {"labels": list(labels), "training": training, "metrics": {}}

    @classmethod
    def evaluate(cls, folder: Path, chosen: EvaluationSet, output: Path, progress: Progress) -> str:
        """Measure the release in `folder`, write a report to `output`, and say it in Markdown. Raises CorpusError."""
        return markdown(evaluate(folder, chosen, output, progress))


class Recipe(Trainable[C], Learner[C, B]):
    """Trains one kind of network by the loop."""

    def train(self, progress: Progress) -> Path:
        return train(self, progress)

    def trained(self, progress: Progress) -> tuple[nn.Module, dict[str, Any]]:
        """Trains, and returns the best network in evaluation mode, with its checkpoint."""
        stored = checkpoint.load(self.train(progress), self.name)
        network = self.build().to(self.config.torch_device)
        network.load_state_dict(stored["network"])
        return network.eval(), stored
