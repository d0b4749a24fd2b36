"""The loop by itself, on a recipe of ten lines: what every recipe gets from it."""

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.lab.errors import CheckpointError, TrainingError
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.config import TrainConfig
from app.lab.training.loop import Recipe, schedule, train
from app.lab.training.recipe import Draft, IntArray

ROOT = Path(__file__).resolve().parents[4]


class Line(Recipe[TrainConfig]):
    """Learns y = 3 x with noise: a batch is its number."""

    name: ClassVar[str] = "line"
    killed_at: int | None = None  # batches in all
    done = 0
    rows = "these"

    def prepare(self, progress: Progress) -> None:
        pass

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.1), nn.Linear(8, 1))

    @property
    def steps_per_epoch(self) -> int:
        return 4

    def batches(self, epoch: int) -> Iterator[IntArray]:
        return iter(np.arange(self.steps_per_epoch)[:, None])

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        self.done += 1
        if self.killed_at is not None and self.done > self.killed_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(rng.normal(size=(8, 1)).astype(np.float32))
        loss: Tensor = (network(x) - 3 * x).square().mean()
        return loss

    def validate(self, network: nn.Module) -> dict[str, float]:
        x = torch.linspace(-1, 1, 9)[:, None]
        with torch.no_grad():
            return {"loss": (network(x) - 3 * x).square().mean().item()}

    def fingerprint(self) -> str:
        return self.rows

    def export(self, stored: dict[str, Any]) -> Draft:
        raise NotImplementedError


def made(output: Path, **changes: Any) -> Line:
    return Line(TrainConfig(catalogue=Path("none.tsv"), output=output, device="cpu", learning_rate=0.05, **changes))


def log(output: Path) -> list[dict[str, str]]:
    with (output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path)["network"]


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_and_leaves_a_log_and_checkpoints(tmp_path: Path) -> None:
    best = train(made(tmp_path, epochs=20))
    rows = log(tmp_path)
    assert [row["epoch"] for row in rows] == [str(i) for i in range(20)]
    assert float(rows[-1]["valid_loss"]) < 0.1 < float(rows[0]["valid_loss"])
    assert json.loads((tmp_path / "config.json").read_text())["learning_rate"] == 0.05
    losses = [float(row["valid_loss"]) for row in rows]
    assert checkpoint.load(best, "line")["best_epoch"] == int(np.argmin(losses))


def test_resume_gives_the_weights_of_an_uninterrupted_run(tmp_path: Path) -> None:
    train(made(tmp_path / "whole", epochs=3))
    train(made(tmp_path / "halves", epochs=1))
    train(made(tmp_path / "halves", epochs=3, resume=True))
    assert same(tmp_path / "whole/last.pt", tmp_path / "halves/last.pt")
    assert len(log(tmp_path / "halves")) == 3


def test_resume_inside_an_epoch_too(tmp_path: Path) -> None:
    train(made(tmp_path / "whole", epochs=2))
    cut = made(tmp_path / "cut", epochs=2, checkpoint_minutes=0.0)
    cut.killed_at = 6  # four steps an epoch: in the middle of the second
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    assert checkpoint.load(tmp_path / "cut/last.pt")["step"] == 2
    train(made(tmp_path / "cut", epochs=2, resume=True))
    assert same(tmp_path / "whole/last.pt", tmp_path / "cut/last.pt")


def test_early_stopping_counts_epochs_without_a_better_loss(tmp_path: Path) -> None:
    train(made(tmp_path, epochs=60, patience_epochs=2))
    losses = [float(row["valid_loss"]) for row in log(tmp_path)]
    assert len(losses) < 60
    assert len(losses) - 1 - int(np.argmin(losses)) == 2  # the patience


class Halved(Line):
    """Goes back to its best weights with half the rate, and less within an epoch; from epoch 2 on nothing is better."""

    name: ClassVar[str] = "halved"

    def prepare(self, progress: Progress) -> None:
        self.epochs = 0
        self.before: list[Tensor] = []
        self.rates: list[float] = []

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        self.used = torch.optim.SGD(network.parameters(), lr=self.config.learning_rate, momentum=0.9)
        return self.used

    def share_in_epoch(self, step: int) -> float:
        return 0.9**step

    def share_after_stop(self, early_stops: int) -> float:
        return 0.5 ** (early_stops + 1)

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        if batch[0] == 0:
            self.before.append(next(network.parameters()).detach().clone())
        self.rates.append(self.used.param_groups[0]["lr"])
        return super().loss(network, batch, rng)

    def validate(self, network: nn.Module) -> dict[str, float]:
        self.epochs += 1
        return {"loss": 1.0 / self.epochs if self.epochs < 3 else 1.0}


def test_an_early_stop_goes_back_to_the_best_with_a_lower_rate(tmp_path: Path) -> None:
    """Epochs 0 and 1 are better; after every two that are not, up to two restarts from epoch 1's weights."""
    recipe = Halved(TrainConfig(catalogue=Path("n"), output=tmp_path, device="cpu", learning_rate=0.1, patience_epochs=2,
                                restarts=2))  # fmt: skip
    best = weights(train(recipe))
    assert recipe.rates == pytest.approx([
        0.1 * left * 0.9**step for left in (1, 1, 1, 1, 0.5, 0.5, 0.125, 0.125) for step in range(4)
    ])  # fmt: skip
    assert [torch.equal(before, best["0.weight"]) for before in recipe.before] == [
        False, False, True, False, True, False, True, False,
    ]  # fmt: skip
    stored = checkpoint.load(tmp_path / "last.pt")
    assert (stored["early_stops"], stored["best_epoch"], stored["epoch"]) == (2, 1, 8)
    assert [float(row["learning_rate"]) for row in log(tmp_path)] == pytest.approx([0.1] * 4 + [0.05] * 2 + [0.0125] * 2)


def test_the_learning_rate_warms_up_and_ends_at_zero(tmp_path: Path) -> None:
    config = made(tmp_path, warmup_steps=4, schedule="cosine", epochs=10).config
    shares = [schedule(config, 10, epoch, step) for epoch in range(10) for step in range(10)]
    assert shares[0] == pytest.approx(1 / 4)
    assert max(shares) < 1
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert schedule(config, 10, 10, 0) == pytest.approx(0)


def test_a_training_is_never_written_over(tmp_path: Path) -> None:
    train(made(tmp_path, epochs=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TrainingError, match=r"last\.pt exists: go on from it with --resume, or choose another --output"):
        train(made(tmp_path, epochs=2, seed=5))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("changes", [{"learning_rate": 0.5}, {"batch_size": 3}, {"seed": 1}])
def test_resume_with_other_settings_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    train(made(tmp_path, epochs=1))
    other = Line(made(tmp_path, resume=True).config.model_copy(update=changes))
    ((name, value),) = changes.items()
    with pytest.raises(CheckpointError, match=rf"trained with {name} = .*, not {value}; give the same to --resume"):
        train(other)


def test_resume_on_other_rows_is_refused(tmp_path: Path) -> None:
    train(made(tmp_path, epochs=1))
    other = made(tmp_path, epochs=2, resume=True)
    other.rows = "others"
    with pytest.raises(CheckpointError, match="the rows or their audio have changed since"):
        train(other)


def test_a_loss_that_is_not_finite_stops_with_a_remedy(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    recipe.loss = lambda *_: torch.tensor(float("nan"), requires_grad=True)  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 0, step 0; begin again with a learning_rate under"):
        train(recipe)


def test_weights_that_broke_down_do_not_replace_good_ones(tmp_path: Path) -> None:
    train(made(tmp_path, epochs=1))
    good = (tmp_path / "last.pt").read_bytes()
    recipe = made(tmp_path, epochs=2, resume=True)

    def broken(network: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            network[0].weight[0, 0] = float("nan")  # type: ignore[index]
        return {"loss": 0.0}

    recipe.validate = broken  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"weights 0\.weight hold NaN .*last\.pt is intact"):
        train(recipe)
    assert (tmp_path / "last.pt").read_bytes() == good


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "first.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"first\.pt is (damaged or )?no checkpoint"):
        train(made(tmp_path / "run", init_from=path))
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone\.pt; check its path"):
        train(made(tmp_path / "run2", init_from=tmp_path / "gone.pt"))


def test_a_checkpoint_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    best = train(made(tmp_path / "run", epochs=1))
    stored = checkpoint.load(best)
    stored["network"]["0.weight"] = torch.zeros(5, 1)
    checkpoint.save(tmp_path / "wide.pt", stored)
    with pytest.raises(
        CheckpointError, match=r"wide\.pt: 1 tensors do not fit .*'0\.weight' should be \(8, 1\) and is \(5, 1\)"
    ):
        train(made(tmp_path / "other", init_from=tmp_path / "wide.pt"))
    checkpoint.save(tmp_path / "kind.pt", stored | {"recipe": "curve"})
    with pytest.raises(CheckpointError, match=r"kind\.pt is of recipe 'curve', expected 'line'"):
        train(made(tmp_path / "other", init_from=tmp_path / "kind.pt"))


def test_a_training_can_start_from_another_ones_weights(tmp_path: Path) -> None:
    first = train(made(tmp_path / "first", epochs=20))
    train(made(tmp_path / "second", epochs=1, init_from=first, seed=1))
    assert float(log(tmp_path / "second")[0]["valid_loss"]) < 0.5 < float(log(tmp_path / "first")[0]["valid_loss"])


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"network": {}, "recipe": "line", "config": ""})

    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file: no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"no space left.*--resume"):
        checkpoint.save(path, {"network": {}, "recipe": "other", "config": ""})
    assert checkpoint.load(path)["recipe"] == "line"


WORKER = """
import os, pathlib, shutil, sys
from app.lab.progress import Progress
from app.lab.training.loop import train
from tests.unit.lab.training.test_loop import made

class Told(Progress):
    def say(self, text):
        print(text)
        if not halves.exists() and (whole / "last.pt").exists():  # of the first epoch: a run that was killed in the second
            shutil.copytree(whole, halves)

whole, halves = (pathlib.Path(sys.argv[1]) / name for name in ("whole", "halves"))
train(made(whole, epochs=2), Told())
os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": sys.argv[2]}  # torchrun's store knows the first group
train(made(halves, epochs=2, resume=True), Told())
"""


def test_two_processes_share_the_batches_and_resume(tmp_path: Path) -> None:
    """torchrun with gloo on the CPU: what two GPUs do."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        command = [*torchrun, str(worker), str(tmp_path), str(free.getsockname()[1])]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("valid_loss ") == 3  # one process talks
    assert same(tmp_path / "whole/last.pt", tmp_path / "halves/last.pt")
    assert checkpoint.load(tmp_path / "whole/last.pt")["processes"] == 2
    with pytest.raises(CheckpointError, match="trained by 2 processes, not 1; start as many"):
        train(made(tmp_path / "whole", epochs=3, resume=True))
