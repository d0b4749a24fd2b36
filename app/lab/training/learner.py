"""Defines what the training loop knows of what it trains."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from app.lab.progress import Progress
from app.lab.training.config import TrainConfig

C = TypeVar("C", bound=TrainConfig)
B = TypeVar("B")  # a batch: small, such as row numbers; `loss` makes tensors of it


class Learner(ABC, Generic[C, B]):
    """Trains one kind of network. The loop calls `prepare` and `build` once, in this order."""

    name: ClassVar[str]
    config: C
    n_examples: int  # to train on; `prepare` sets it, unless the recipe draws its own batches

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Read the catalogue and fill the caches. Raises CorpusError naming the row that cannot be used."""

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

    def batches(self, epoch: int) -> Iterator[B]:
        """Yields `steps_per_epoch` batches, the same for the same seed and epoch.

        Here they are numbers of examples, shuffled: each comes once before any comes again.
        """
        rng, size, order = np.random.default_rng([self.config.seed, epoch]), self.config.batch_size, np.zeros(0, np.int64)
        for _ in range(self.steps_per_epoch):
            if len(order) < size:
                order = np.concatenate([order, rng.permutation(self.n_examples)])
            yield order[:size]  # type: ignore[misc]
            order = order[size:]

    @abstractmethod
    def loss(self, network: nn.Module, batch: B, rng: np.random.Generator) -> Tensor:
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
