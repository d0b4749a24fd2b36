"""Defines the settings that every training has."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from app.families.contract import Label, Strict
from app.lab.labels import PAPER_LABELS


class RunConfig(Strict):
    """Holds the settings of everything that learns. All but those in `MAY_CHANGE` decide the result."""

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
    """Adds the settings of what the training loop trains."""

    epochs: int = Field(200, ge=1)
    patience_epochs: int = Field(20, ge=1)  # without a better validation loss (Choi & Wang 2021, §4.2)
    restarts: int = Field(0, ge=0)  # early stops after which training goes on from the best checkpoint
    steps_per_epoch: int = Field(0, ge=0)  # 0 = one pass over the rows
    batch_size: int = Field(32, ge=2)  # rows
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    plateau_epochs: int = Field(5, ge=1)  # without a better validation loss, until `plateau` takes a tenth of the rate
    init_from: Path | None = None  # checkpoint whose weights to start from
    checkpoint_minutes: float = Field(10.0, ge=0)  # inside an epoch; one is written after each epoch anyway


MAY_CHANGE = frozenset({  # between a training and its `resume`
    "catalogue", "output", "cache", "store", "init_from", "patience_epochs", "restarts", "checkpoint_minutes", "threads",
    "device", "resume",
})  # fmt: skip
