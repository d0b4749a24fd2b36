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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.families.lrid_net.network import LridNet
from app.families.lrid_net.read import langdetect_languages
from app.training import augment, checkpoint
from app.training.config import VARIANTS, TrainConfig
from app.training.data import Crops, Data, crops, prepare
from app.training.errors import CheckpointError, TrainingError
from app.training.journal import Journal
from app.training.phonemes import PhonemeHead, PhonemeScores
from app.training.validate import Ear, validate


@dataclass
class State:
    """Where a training stands; all of it goes into a checkpoint."""

    network: LridNet
    audio_head: nn.Linear  # training only: s_audio → classes, for `audio_loss_weight`
    phonemes: PhonemeHead | None  # training only too, for `phoneme_loss_weight`
    optimizer: torch.optim.Optimizer
    epoch: int = 0  # the one being trained
    step: int = 0  # done in this epoch
    loss_sum: float = 0.0  # of those steps
    best: float = math.inf  # validation loss
    best_epoch: int = -1
    history: list[str] = field(default_factory=list)  # trainings whose weights this one began with


def train(config: TrainConfig) -> Path:
    """Trains until validation stops improving; returns the best checkpoint. Raises TrainingError and its kinds."""
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "config.json").write_text(config.as_json(), encoding="utf-8")
    console = Console()
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*bars, console=console) as progress:
        data = prepare(config, progress)
        scores = PhonemeScores(data.train.rows, config.listen) if config.phoneme_loss_weight else None
        state = _start(config, len(scores.inventory) if scores else 0)
        journal = Journal(config.output, keep=config.resume)
        ear = Ear(config, data, state.network, pick_device(config))
        steps = steps_per_epoch(config, data)
        if config.freeze_listener:
            ear.memorise(progress)
        while state.epoch < config.epochs and state.epoch - state.best_epoch <= config.patience_epochs:
            task = progress.add_task(f"epoch {state.epoch}", total=steps, completed=state.step)
            _one_epoch(config, data, state, ear, scores, steps, lambda: progress.advance(task))  # noqa: B023 - called at once
            report = validate(config, data, state.network, ear)
            if report.loss < state.best:
                state.best, state.best_epoch = report.loss, state.epoch
            train_loss = state.loss_sum / steps
            line = journal.add(state.epoch, learning_rate(config, steps, state.epoch, 0), train_loss, report)
            console.print(line, highlight=False)
            state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
            if state.best_epoch == state.epoch - 1:
                checkpoint.save(config.output / "best.pt", _as_dict(config, data, state))
            checkpoint.save(config.output / "last.pt", _as_dict(config, data, state))
            progress.remove_task(task)
        journal.plot()
    return config.output / "best.pt"


def _one_epoch(
    config: TrainConfig, data: Data, state: State, ear: Ear, scores: PhonemeScores | None, steps: int, advance: Any
) -> None:
    """The rest of an epoch, from `state.step` on."""
    saved = time.monotonic()
    state.network.train()
    if config.freeze_listener:
        state.network.f.eval()  # its BatchNorm statistics stay too
    for step, batch in enumerate(batches(config, data, state.epoch, steps)):
        if step < state.step:
            continue
        rng = np.random.default_rng([config.seed, state.epoch, step])
        torch.manual_seed(int(rng.integers(2**62)))  # for modality dropout
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, steps, state.epoch, step)
        loss = batch_loss(config, data, state, ear, batch, rng, scores)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {state.epoch}, step {step}; the last checkpoint is intact: "
                f"continue from it with a learning rate under {config.learning_rate:g}, or in fp32"
            )
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.loss_sum += loss.item()
        state.step = step + 1
        advance()
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            checkpoint.save(config.output / "last.pt", _as_dict(config, data, state))
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
    scores: PhonemeScores | None = None,
) -> Tensor:
    """Cross-entropy of a batch, a scalar."""
    network, device, train = state.network, ear.device, data.train
    phoneme_loss = None
    if config.freeze_listener:
        heard, silent = ear.remembered(batch.audio), ear.silent_features
    else:
        made = crops(data, [train.rows[i] for i in batch.audio], config, rng) if VARIANTS[config.variant].audio else None
        heard, silent = _listen(config, network, ear, made, rng)
        if state.phonemes is not None and scores is not None and made is not None:
            phoneme_loss = state.phonemes.loss(scores.targets(batch.audio, made))
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
    if phoneme_loss is not None:
        loss = loss + config.phoneme_loss_weight * phoneme_loss
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
    x_audio = ear.log_mel(torch.from_numpy(made.samples).to(ear.device))  # (A, 128, t)
    if config.augment:
        x_audio = augment.colour(x_audio, rng)
    if VARIANTS[config.variant].drop_audio:
        x_audio = torch.cat([x_audio, x_audio.new_zeros(1, *x_audio.shape[1:])])
    with ear.autocast():
        features = network.f(x_audio.unsqueeze(1).contiguous(memory_format=torch.channels_last))
    return features[: len(made.samples)], features[len(made.samples) :]


def learning_rate(config: TrainConfig, steps: int, epoch: int, step: int) -> float:
    """Linear warm-up, then constant, or a cosine that reaches zero with the last epoch."""
    done = epoch * steps + step
    rate = config.learning_rate * min(1.0, (done + 1) / max(1, config.warmup_steps))
    if config.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * done / (config.epochs * steps)))
    return rate


def _start(config: TrainConfig, n_phonemes: int = 0) -> State:
    """A new network, one that begins with the weights of `init_from`, or with `resume` the state of last.pt."""
    device = pick_device(config)
    network = build(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    audio_head = nn.Linear(config.network.n_audio_features, len(config.labels)).to(device)
    with torch.no_grad():  # decibels have a large mean: filters that ignore it are better conditioned
        network.f.conv1.weight -= network.f.conv1.weight.mean(dim=(2, 3), keepdim=True)
    if config.freeze_listener:
        network.f.requires_grad_(False)
    phonemes = PhonemeHead(network.f, config.network.base_channels * 8, n_phonemes).to(device) if n_phonemes else None
    parts = [network, audio_head, *([phonemes] if phonemes else [])]
    learnt = [p for part in parts for p in part.parameters() if p.requires_grad]
    state = State(network, audio_head, phonemes, torch.optim.Adam(learnt, lr=config.learning_rate))
    if config.init_from is not None:
        stored = read_checkpoint(config.init_from, config, same_variant=False)
        prefixes = ("f.",) if config.fresh_heads else ("f.", "g.", "h.")
        wanted = {name: tensor for name, tensor in stored["network"].items() if name.startswith(prefixes)}
        network.load_state_dict(network.state_dict() | wanted)
        audio_head.load_state_dict(stored["audio_head"])
        state.history = [*stored["history"], stored["config"]]
    if config.resume:
        stored = read_checkpoint(config.output / "last.pt", config, same_variant=True)
        network.load_state_dict(stored["network"])
        audio_head.load_state_dict(stored["audio_head"])
        if phonemes is not None:
            phonemes.load_state_dict(stored["phonemes"])
        state.optimizer.load_state_dict(stored["optimizer"])
        for name in ("epoch", "step", "loss_sum", "best", "best_epoch", "history"):
            setattr(state, name, stored[name])
    return state


def build(config: TrainConfig) -> LridNet:
    """The network of a variant, with its modality dropout."""
    kind = VARIANTS[config.variant]
    return LridNet(
        config.network,
        n_text=len(langdetect_languages()) + 1,
        n_classes=len(config.labels),
        audio_dropout=config.dropout_rate * kind.drop_audio,
        text_dropout=config.dropout_rate * kind.drop_text,
    )


def pick_device(config: TrainConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def read_checkpoint(path: Path, config: TrainConfig, *, same_variant: bool) -> dict[str, Any]:
    """Raises CheckpointError if it is of another network, other classes or, where that matters, another variant."""
    stored = checkpoint.load(path)
    expected = {"labels": config.codes, "network_config": config.network.model_dump()}
    if same_variant:
        expected |= {"variant": config.variant}
    for name, value in expected.items():
        if stored.get(name) != value:
            raise CheckpointError(f"{path}: its {name} is {stored.get(name)}, this training's is {value}")
    return stored


def _as_dict(config: TrainConfig, data: Data, state: State) -> dict[str, Any]:
    return {
        "variant": config.variant,
        "labels": config.codes,
        "label_details": [label.model_dump() for label in config.labels],
        "history": state.history,
        "network_config": config.network.model_dump(),
        "listen_config": config.listen.model_dump(),
        "text_seed": config.text_seed,
        "config": config.as_json(),
        "class_prior": data.class_prior.tolist(),
        "rows": {"audio": len(data.train.labels), "text": len(data.train.text_labels)},
        "network": state.network.state_dict(),
        "audio_head": state.audio_head.state_dict(),
        "phonemes": state.phonemes.state_dict() if state.phonemes else None,
        "optimizer": state.optimizer.state_dict(),
        **{name: getattr(state, name) for name in ("epoch", "step", "loss_sum", "best", "best_epoch")},
    }
