"""Defines what the command line, the release maker and the loop know of a recipe. README.md says how to add one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from app.families.contract import Label, Manifest, Model
from app.lab.corpus.catalogue import Row
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.evaluate import evaluate
from app.lab.evaluation.report import markdown
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.config import RunConfig, TrainConfig

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figures:
    """Holds what was measured of a release on one set of rows."""

    by_mode: dict[str, dict[str, Any]]  # for the manifest
    page: str  # for the card, as Markdown
    plain: dict[str, Any] = field(default_factory=dict)  # for evaluation.json
    rows: Sequence[Row] = ()  # that are described beside figures of a paper's own


@dataclass(frozen=True, slots=True)
class Draft:
    """Describes a release before it is calibrated, measured and published."""

    manifest: Manifest  # its hash is set when the weights are written
    tensors: dict[str, Tensor]
    about: str  # what kind of network, for the card
    notes: dict[str, str] = field(default_factory=dict)  # further sections of the card: title → Markdown
    calibrated: bool = False  # the recipe has fitted temperatures and thresholds itself
    # instead of the figures of a single label in the paper's cases
    measure: Callable[[Sequence[Model], EvaluationSet, Progress], Figures] | None = None
    golden: Sequence[Mapping[str, Any]] = ()  # further inputs of golden.json, such as words that the release knows


R = TypeVar("R", bound=RunConfig)
C = TypeVar("C", bound=TrainConfig)


class Trainable(ABC, Generic[R]):
    """Is all that the command line and the release maker know. What is fitted without the loop derives from this."""

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
        """Measures the release in `folder`, writes a report to `output`, and returns it in Markdown. Raises CorpusError."""
        return markdown(evaluate(folder, chosen, output, progress))


class Learner(Trainable[C]):
    """Is all that the loop knows. It calls `prepare` and `build` once, in this order; `loop.Recipe` joins the two."""

    n_examples: int  # to train on; `prepare` sets it, unless the recipe draws its own batches

    def trained(self, progress: Progress) -> tuple[nn.Module, dict[str, Any]]:
        """Trains, and returns the best network in evaluation mode, with its checkpoint."""
        stored = checkpoint.load(self.train(progress), self.name)
        network = self.build().to(self.config.torch_device)
        network.load_state_dict(stored["network"])
        return network.eval(), stored

    def variant(self, name: str, **changes: Any) -> Self:
        """Returns the recipe with other settings and a folder of its own, where it goes on if it was stopped."""
        output = self.config.output / name
        own = {"output": output, "cache": self.config.cache_folder, "resume": (output / "last.pt").is_file()}
        return type(self)(type(self.config).model_validate(self.config.model_dump() | own | changes))

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Reads the catalogue and fills the caches. Raises CorpusError naming the row that cannot be used."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Returns the network with its first weights, on the CPU."""

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Returns Adam, as the paper. The loop multiplies each group's `lr` by the schedule."""
        return torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=self.config.learning_rate)

    def share_in_epoch(self, step: int) -> float:
        """Returns the share of the scheduled learning rate in a step of an epoch, counted from 0."""
        return 1.0

    def share_after_stop(self, early_stops: int) -> float:
        """Returns the share of the learning rate after an early stop; `early_stops` came before it."""
        return 1.0

    @property
    def steps_per_epoch(self) -> int:
        """Returns the setting, or one pass over the examples if it is 0."""
        return self.config.steps_per_epoch or max(1, self.n_examples // self.config.batch_size)

    def batches(self, epoch: int) -> Iterator[IntArray]:
        """Yields `steps_per_epoch` batches, (batch_size,) numbers of examples; the same for the same seed and epoch.

        Here they are shuffled: each example comes once before any comes again.
        """
        rng, size, order = np.random.default_rng([self.config.seed, epoch]), self.config.batch_size, np.zeros(0, np.int64)
        for _ in range(self.steps_per_epoch):
            if len(order) < size:
                order = np.concatenate([order, rng.permutation(self.n_examples)])
            yield order[:size]
            order = order[size:]

    @abstractmethod
    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns a scalar. All randomness comes from `rng` and torch's generator, which are seeded for each step."""

    @abstractmethod
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures the validation rows; early stopping watches `loss`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hashes the rows and the audio that are learnt from: `resume` refuses others."""

    def facts(self) -> dict[str, Any]:
        """Returns what the release says of its training data; plain values, kept in the checkpoint."""
        return {}

    def tensor(self, array: npt.NDArray[Any]) -> Tensor:
        """Moves an array to the device of the training."""
        return torch.from_numpy(array).to(self.config.torch_device)
