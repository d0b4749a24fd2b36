"""Train an LRID-Net (Choi & Wang 2021, §3.4 and §4.2). Read `train` from top to bottom.

A batch is `batch_size` rows with audio and, if asked for, `text_rows_per_batch` rows with metadata only. An audio that is
missing, whether dropped or never there, is a zero spectrogram. All of them have the same features, so f hears one zero
item for the whole batch, and BatchNorm counts it once.

Every step draws from a generator of its own, seeded by (seed, epoch, step). So `resume` needs no random states to go on to
the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn.functional import cross_entropy

from app.families.lrid_net.network import LridNet
from app.lab.training import augment
from app.lab.training.config import VARIANTS, TrainConfig
from app.lab.training.data import Crops, Data, crops, prepare
from app.lab.training.errors import TrainingError
from app.lab.training.journal import Journal
from app.lab.training.state import State, broken_down, build, check_data, pick_device, read_checkpoint, save, start
from app.lab.training.team import Team, gather
from app.lab.training.validate import Ear, validate

__all__ = ["build", "pick_device", "read_checkpoint", "train"]


def train(config: TrainConfig) -> Path:
    """Trains until validation stops improving; returns the best checkpoint. Raises CorpusError, TrainingError and its kinds.

    Under torchrun each process calls this; they share every batch, and the first one writes.
    """
    try:
        with gather(config.device) as team:
            return _train(config, team)
    except OSError as error:
        raise TrainingError(
            f"{error}: nothing more can be written to {config.output}; free some disk and go on with --resume"
        ) from error


def _train(config: TrainConfig, team: Team) -> Path:
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    last = config.output / "last.pt"
    if last.exists() and not config.resume:
        raise TrainingError(f"{last} exists: go on from it with --resume, or choose another --output; nothing was touched")
    console = Console(quiet=not team.leads)
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*bars, console=console, disable=not team.leads) as progress:
        with team.first_alone():
            data = prepare(config, progress)
        check_team(config, data, team)
        for finding in data.findings:
            console.print(f"{config.manifest.name}, {finding}", style="yellow", markup=False, highlight=False)
        state = start(config, team.size)
        if config.resume:
            check_data(last, config, data)
        journal = Journal(config, state.epoch) if team.leads else None
        ear = Ear(config, data, state.network, pick_device(config), team)
        steps = steps_per_epoch(config, data)
        if config.freeze_listener:
            ear.memorise(progress)
        try:
            while state.epoch < config.epochs and state.epoch - state.best_epoch <= config.patience_epochs:
                task = progress.add_task(f"epoch {state.epoch}", total=steps, completed=state.step)
                _one_epoch(config, data, state, ear, steps, lambda: progress.advance(task))  # noqa: B023 - at once
                report = validate(config, data, state.network, ear)
                if journal:
                    rate = learning_rate(config, steps, state.epoch, 0)
                    console.print(journal.add(state.epoch, rate, state.loss_sum / steps, report), highlight=False)
                _end_epoch(config, data, state, team, team.agreed(report.loss, ear.device))
                progress.remove_task(task)
        finally:
            if journal:
                journal.plot()
    return config.output / "best.pt"


def _end_epoch(config: TrainConfig, data: Data, state: State, team: Team, loss: float) -> None:
    """Counts, and checkpoints: best.pt first, so that a run killed in between repeats the epoch and finds the same."""
    if not math.isfinite(loss):
        raise broken_down(config, f"the validation loss became {loss} in epoch {state.epoch}")
    better = loss < state.best
    if better:
        state.best, state.best_epoch = loss, state.epoch
    state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
    if team.leads and better:
        save("best.pt", config, data, state)
    if team.leads:
        save("last.pt", config, data, state)


def check_team(config: TrainConfig, data: Data, team: Team) -> None:
    """Raises TrainingError unless every process gets an equal share of each batch, for means over processes to be means."""
    n_audio = config.batch_size if len(data.train.labels) else 0
    n_text = config.text_rows_per_batch if n_audio else config.batch_size
    if n_audio % team.size or n_text % team.size or 0 < n_audio < 2 * team.size:
        raise TrainingError(
            f"{team.size} processes cannot share batches of {n_audio} rows with audio and {n_text} without: "
            f"make both multiples of {team.size}, and the first at least {2 * team.size}"
        )


def _one_epoch(config: TrainConfig, data: Data, state: State, ear: Ear, steps: int, advance: Any) -> None:
    """The rest of an epoch, from `state.step` on."""
    saved, team = time.monotonic(), ear.team
    state.network.train()
    if config.freeze_listener:
        state.network.f.eval()  # its BatchNorm statistics stay too
    for step, batch in enumerate(batches(config, data, state.epoch, steps)):
        if step < state.step:
            continue
        rng = np.random.default_rng([config.seed, state.epoch, step, *([team.rank] if team.rank else [])])
        torch.manual_seed(int(rng.integers(2**62)))  # for modality dropout
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, steps, state.epoch, step)
        own = Batch(team.share(batch.audio), team.share(batch.text))
        loss = batch_loss(config, data, state, ear, own, rng)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = team.average(state.modules, loss)
        if not torch.isfinite(loss):
            raise broken_down(config, f"the loss became {loss.item()} in epoch {state.epoch}, step {step}")
        state.optimizer.step()
        state.loss_sum += loss.item()
        state.step = step + 1
        advance()
        if team.leads and time.monotonic() - saved > 60 * config.checkpoint_minutes:
            save("last.pt", config, data, state)
            saved = time.monotonic()


@dataclass(frozen=True, slots=True)
class Batch:
    audio: npt.NDArray[np.int64]  # indices of rows with audio
    text: npt.NDArray[np.int64]  # indices of rows with metadata only


def steps_per_epoch(config: TrainConfig, data: Data) -> int:
    """As told, or one pass over the rows with audio; over the others when there are none."""
    if config.steps_per_epoch:
        return config.steps_per_epoch
    n = len(data.train.labels) or len(data.train.text_labels)
    return max(1, n // config.batch_size)


def batches(config: TrainConfig, data: Data, epoch: int, steps: int) -> Iterator[Batch]:
    """The same for the same seed and epoch. Rows with audio come in turn; text rows are drawn (see `Data`)."""
    rng = np.random.default_rng([config.seed, epoch])
    n_audio, n_text = len(data.train.labels), config.text_rows_per_batch
    passes = math.ceil(steps * config.batch_size / n_audio) if n_audio else 0
    order = np.concatenate([np.zeros(0, np.int64), *(rng.permutation(n_audio) for _ in range(passes))])
    if not n_audio:
        n_text = config.batch_size
    for step in range(steps):
        audio = order[step * config.batch_size : (step + 1) * config.batch_size]
        drawable = len(data.text_probabilities) > 0 and n_text > 0
        text = rng.choice(len(data.text_probabilities), n_text, p=data.text_probabilities) if drawable else order[:0]
        yield Batch(audio, text)


def batch_loss(
    config: TrainConfig,
    data: Data,
    state: State,
    ear: Ear,
    batch: Batch,
    rng: np.random.Generator,
) -> Tensor:
    """Cross-entropy of a batch, a scalar."""
    network, device, train = state.network, ear.device, data.train
    if config.freeze_listener:
        heard, silent = ear.remembered(batch.audio), ear.silent_features
    else:
        made = crops(data, [train.rows[i] for i in batch.audio], config, rng) if VARIANTS[config.variant].audio else None
        heard, silent = _listen(config, network, ear, made, rng)
    table = torch.cat([heard, silent])  # (A + 1, 2048); without the last row where no audio is ever missing
    kept = network.drop_audio(torch.ones(len(batch.audio), 1))[:, 0] > 0  # (A,) ModalityDropout on whole items
    row_of = torch.where(kept, torch.arange(len(batch.audio)), len(heard))  # (A,) the last row stands for silence
    row_of = torch.cat([row_of, torch.full((len(batch.text),), len(heard))]).to(device)  # (A + T,)
    s_audio = table[row_of]  # (A + T, 2048)

    x_lang = torch.from_numpy(np.concatenate([train.x_lang[batch.audio], train.text_x_lang[batch.text]])).to(device)
    if not VARIANTS[config.variant].text:
        x_lang = torch.zeros_like(x_lang)
    s_text = network.g(network.drop_text(x_lang))  # (A + T, 128)
    labels = torch.from_numpy(np.concatenate([train.labels[batch.audio], train.text_labels[batch.text]])).to(device)
    elsewhere = torch.from_numpy(~train.classes[batch.audio]).to(device)  # (A, n_classes) not of the row's domain
    every = elsewhere.new_zeros(len(batch.text), elsewhere.shape[1])
    logits = network.h(torch.cat([s_audio, s_text], dim=1))
    loss = cross_entropy(logits.masked_fill(torch.cat([elsewhere, every]), -math.inf), labels)
    if config.audio_loss_weight and len(heard):
        own = cross_entropy(state.audio_head(heard).masked_fill(elsewhere, -math.inf), labels[: len(heard)])
        loss = loss + config.audio_loss_weight * own
    return loss


def _listen(
    config: TrainConfig, network: LridNet, ear: Ear, made: Crops | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Features of the rows, (A, 2048), and those of silence, (1, 2048) or (0, 2048) if none is needed.

    Dropped rows are heard too: they cost what their zeros would have, the shapes stay the same from batch to batch (on a CPU
    each new shape means compiling kernels), and `audio_loss_weight` can use them.
    """
    if made is None:
        return ear.silent_features[:0], ear.silent_features
    x_audio = ear.x_audio(made)  # (A, 128, t)
    if config.augment:
        x_audio = augment.colour(x_audio, rng)
    if VARIANTS[config.variant].drop_audio:
        x_audio = torch.cat([x_audio, x_audio.new_zeros(1, *x_audio.shape[1:])])
    with ear.autocast():
        features = network.f(x_audio.unsqueeze(1).contiguous(memory_format=torch.channels_last))
    return features[: len(made.starts)], features[len(made.starts) :]


def learning_rate(config: TrainConfig, steps: int, epoch: int, step: int) -> float:
    """Linear warm-up, then constant, or a cosine that reaches zero with the last epoch."""
    done = epoch * steps + step
    rate = config.learning_rate * min(1.0, (done + 1) / max(1, config.warmup_steps))
    if config.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * done / (config.epochs * steps)))
    return rate
