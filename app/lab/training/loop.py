"""Trains every recipe in one loop. Read `train` from top to bottom.

Every step draws from generators of its own, seeded by (seed, epoch, step). So `resume` needs no random states to go on to
the same weights. Under torchrun each process takes every n-th batch, and gradients are averaged.
"""

import csv
import io
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from app.lab.errors import CheckpointError, TrainingError
from app.lab.progress import QUIET, Progress
from app.lab.training import checkpoint
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import C, IntArray, Learner

PLATEAU_SHARE = 0.1


@dataclass
class State:
    """Says where a training stands."""

    epoch: int = 0  # the one being trained
    step: int = 0  # done in this epoch
    loss_sum: float = 0.0  # of those steps
    best: float = math.inf  # validation loss
    best_epoch: int = -1
    early_stops: int = 0  # after which it went on
    stop_epoch: int = -1  # of the last of those
    waited: int = 0  # epochs since the best, or since the rate was reduced on a plateau
    reduced: float = 1.0  # share of the learning rate that early stops and plateaus have left
    log: list[dict[str, str]] = field(default_factory=list)  # a line of log.csv for each epoch that is done


@dataclass
class Run:
    """Holds what one process of a training works on."""

    recipe: Learner[Any]
    network: nn.Module
    optimiser: torch.optim.Optimizer
    state: State
    rank: int
    size: int  # processes
    steps: int  # of this process, in each epoch

    def save(self, name: str) -> None:
        """Writes what `_go_on` and a release need. Raises CheckpointError, and TrainingError if weights are not finite."""
        if self.rank > 0:
            return
        config, weights = self.recipe.config, self.network.state_dict()
        if broken := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
            raise _diverged(config, f"the weights {broken[0]} hold NaN or infinite values in epoch {self.state.epoch}")
        stored = {
            "recipe": self.recipe.name,
            "config": config.model_dump_json(),
            "facts": self.recipe.facts(),
            "data": self.recipe.fingerprint(),
            "processes": self.size,
            "network": weights,
            "optimiser": self.optimiser.state_dict(),
        }
        checkpoint.save(config.output / name, stored | asdict(self.state))


def train(recipe: Learner[Any], progress: Progress = QUIET) -> Path:
    """Trains until validation stops improving; returns the best checkpoint. Raises CorpusError, TrainingError."""
    config: TrainConfig = recipe.config
    if (config.output / "last.pt").exists() and not config.resume:
        raise TrainingError(
            f"{config.output}/last.pt exists: go on from it with --resume, or choose another --output; nothing was touched"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    with processes(config) as (rank, size):
        progress = progress if rank == 0 else QUIET
        recipe.prepare(progress)
        run = _begin(recipe, rank, size)
        state = run.state
        began = time.monotonic() - 60 * float(state.log[-1]["minutes"] if state.log else 0)
        if rank == 0:
            _write_log(config, state.log)
        loss = LossOf(recipe, run.network)
        loss_of = DistributedDataParallel(loss, find_unused_parameters=True) if size > 1 else loss

        while state.epoch < config.epochs and not _waited_enough(state, config):
            _train_epoch(run, loss_of, progress)
            scores = recipe.validate(run.network.eval()) if rank == 0 else {}
            valid_loss = _of_first(scores.get("loss", 0.0), size, config)
            if not math.isfinite(valid_loss):
                raise _diverged(config, f"the validation loss became {valid_loss} in epoch {state.epoch}")
            if rank == 0:
                state.log.append(_log_line(run, time.monotonic() - began, scores))
                _write_log(config, state.log)
                progress.say("  ".join(f"{name} {value}" for name, value in state.log[-1].items()))
            better = valid_loss < state.best
            if better:
                state.best, state.best_epoch = valid_loss, state.epoch
            _wait(state, config, better=better)
            state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
            if better:  # best.pt first: a run killed in between repeats the epoch and finds the same
                run.save("best.pt")
            elif state.early_stops < config.restarts and _waited_enough(state, config):
                _go_back(run)
            run.save("last.pt")
    return config.output / "best.pt"


def _begin(recipe: Learner[Any], rank: int, size: int) -> Run:
    """Builds a network: new, with the weights of `init_from`, or with `resume` in the state of last.pt."""
    config: TrainConfig = recipe.config
    torch.manual_seed(config.seed)
    network = recipe.build()
    if config.init_from and not config.resume:
        checkpoint.load_weights(config.init_from, checkpoint.load(config.init_from, recipe.name), network)
    network.to(config.torch_device)
    run = Run(recipe, network, recipe.optimiser(network), State(), rank, size, max(1, recipe.steps_per_epoch // size))
    for group in run.optimiser.param_groups:
        group["initial_lr"] = group["lr"]
    if config.resume:
        run.state = _go_on(run)
    return run


def _train_epoch(run: Run, loss_of: nn.Module, progress: Progress) -> None:
    """Trains the rest of an epoch, from `state.step` on."""
    config: TrainConfig = run.recipe.config
    state, saved = run.state, time.monotonic()
    run.network.train()
    own = islice(run.recipe.batches(state.epoch), run.rank, run.steps * run.size, run.size)
    for step, batch in enumerate(progress.each(f"epoch {state.epoch}", own, run.steps)):
        if step < state.step:
            continue
        rng = np.random.default_rng([config.seed, state.epoch, step, *([run.rank] if run.rank else [])])
        torch.manual_seed(int(rng.integers(2**62)))
        share = state.reduced * run.recipe.share_in_epoch(step)
        for group in run.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * share * schedule(config, run.steps, state.epoch, step)
        loss = loss_of(batch, rng)
        if not torch.isfinite(loss):
            raise _diverged(config, f"the loss became {loss.item()} in epoch {state.epoch}, step {step}")
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        run.optimiser.step()
        state.loss_sum += loss.item()
        state.step = step + 1
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            run.save("last.pt")
            saved = time.monotonic()


def _waited_enough(state: State, config: TrainConfig) -> bool:
    """Tells whether the patience is used up, since the best epoch or since training went back to it."""
    return state.epoch - max(state.best_epoch, state.stop_epoch) > config.patience_epochs


def _go_back(run: Run) -> None:
    """Goes on from the best checkpoint, at the learning rate that the recipe leaves."""
    path, state = run.recipe.config.output / "best.pt", run.state
    stored = checkpoint.load(path, run.recipe.name)
    checkpoint.load_weights(path, stored, run.network)
    run.optimiser.load_state_dict(stored["optimiser"])
    state.reduced *= run.recipe.share_after_stop(state.early_stops)
    state.early_stops, state.stop_epoch = state.early_stops + 1, state.epoch - 1


def schedule(config: TrainConfig, steps: int, epoch: int, step: int) -> float:
    """Returns the share of the learning rate: linear warm-up, then constant, or a cosine down to zero in the last epoch."""
    done = epoch * steps + step
    share = min(1.0, (done + 1) / max(1, config.warmup_steps))
    if config.schedule == "cosine":
        share *= 0.5 * (1 + math.cos(math.pi * done / (config.epochs * steps)))
    return share


def _wait(state: State, config: TrainConfig, *, better: bool) -> None:
    """Counts epochs without a better loss; the schedule `plateau` then multiplies the rate by PLATEAU_SHARE."""
    state.waited = 0 if better else state.waited + 1
    if config.schedule == "plateau" and state.waited >= config.plateau_epochs:
        state.waited, state.reduced = 0, state.reduced * PLATEAU_SHARE


def _log_line(run: Run, seconds: float, scores: dict[str, float]) -> dict[str, str]:
    """Makes the line of log.csv for the epoch that was trained and validated."""
    config, state = run.recipe.config, run.state
    rate = config.learning_rate * state.reduced * schedule(config, run.steps, state.epoch, 0)
    line = {"epoch": f"{state.epoch}", "minutes": f"{seconds / 60:.2f}", "learning_rate": f"{rate:.3g}"}
    losses = {"train_loss": state.loss_sum / run.steps} | {f"valid_{name}": value for name, value in scores.items()}
    return line | {name: f"{value:.4f}" for name, value in losses.items()}


def _write_log(config: TrainConfig, log: list[dict[str, str]]) -> None:
    """Writes config.json and log.csv; the columns are those of the first line. Raises TrainingError."""
    lines = io.StringIO(newline="")
    if log:
        writer = csv.DictWriter(lines, list(log[0]))
        writer.writeheader()
        writer.writerows(log)
    try:
        config.output.mkdir(parents=True, exist_ok=True)
        for name, text in (("config.json", config.model_dump_json(indent=1) + "\n"), ("log.csv", lines.getvalue())):
            part = config.output / f"{name}.part"
            part.write_text(text, encoding="utf-8", newline="")
            part.replace(config.output / name)
    except OSError as error:
        what = f"{config.output} cannot be written ({error})"
        raise TrainingError(f"{what}; free some disk and go on with --resume, or choose another --output") from error


class LossOf(nn.Module):
    """Makes one module of the network and its loss, as DistributedDataParallel wants it."""

    def __init__(self, recipe: Learner[Any], network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._recipe = recipe

    def forward(self, batch: IntArray, rng: np.random.Generator) -> Tensor:
        return self._recipe.loss(self.network, batch, rng)


@contextmanager
def processes(config: TrainConfig) -> Iterator[tuple[int, int]]:
    """Gives rank and number of the processes that torchrun started, one per GPU or over gloo; else (0, 1)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield 0, 1
        return
    if config.torch_device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if config.torch_device.type == "cuda" else "gloo")
    try:
        yield distributed.get_rank(), size
    finally:
        distributed.destroy_process_group()


def _of_first(number: float, size: int, config: TrainConfig) -> float:
    """Shares the first process's number: what decides must be the same to the last digit everywhere."""
    if size == 1:
        return number
    shared = torch.tensor([number], dtype=torch.float64, device=config.torch_device)
    if distributed.get_rank() > 0:  # sent, not broadcast: gloo's threads hold what is broadcast a little longer than
        distributed.recv(shared, 0)  # the call lasts, and a Python that ends in that time is aborted
    else:
        for other in range(1, size):
            distributed.send(shared, other)
    return float(shared.item())


def _go_on(run: Run) -> State:
    """Restores the state in last.pt. Raises CheckpointError if it is of other settings, rows, or number of processes."""
    path = run.recipe.config.output / "last.pt"
    stored = checkpoint.load(path, run.recipe.name)
    checkpoint.check_settings(path, stored, run.recipe.config)
    if stored["data"] != run.recipe.fingerprint():
        raise CheckpointError(
            f"{path}: the rows or their audio have changed since; restore them, or begin another training with "
            f"init_from={path} and another --output"
        )
    if stored["processes"] != run.size:
        raise CheckpointError(f"{path}: trained by {stored['processes']} processes, not {run.size}; start as many")
    checkpoint.load_weights(path, stored, run.network)
    run.optimiser.load_state_dict(stored["optimiser"])
    return State(**{name: stored.get(name, first) for name, first in asdict(State()).items()})


def _diverged(config: TrainConfig, what: str) -> TrainingError:
    """Says what to do about losses and weights that are not finite."""
    last = config.output / "last.pt"
    again = f"{last} is intact: begin another training with init_from={last} and" if last.exists() else "begin again with"
    return TrainingError(f"{what}; {again} a learning_rate under {config.learning_rate:g}")


class Recipe(Learner[C]):
    """Is trained by this loop."""

    def train(self, progress: Progress) -> Path:
        return train(self, progress)
