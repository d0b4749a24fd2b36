"""Where a training stands, and how it comes from and goes into a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.families.lrid_net.network import LridNet
from app.families.lrid_net.profiles import langdetect_languages
from app.lab.training import checkpoint
from app.lab.training.config import VARIANTS, TrainConfig
from app.lab.training.data import Data
from app.lab.training.errors import CheckpointError, TrainingError

COUNTERS = ("epoch", "step", "loss_sum", "best", "best_epoch")
MAY_CHANGE = {  # between a training and its --resume, without changing the result
    "manifest", "text_manifest", "output", "cache", "init_from", "patience_epochs", "checkpoint_minutes", "threads",
    "device", "resume",
}  # fmt: skip


@dataclass
class State:
    """Where a training stands; all of it goes into a checkpoint."""

    network: LridNet
    audio_head: nn.Linear  # training only: s_audio → classes, for `audio_loss_weight`
    optimizer: torch.optim.Optimizer
    epoch: int = 0  # the one being trained
    step: int = 0  # done in this epoch
    loss_sum: float = 0.0  # of those steps
    best: float = math.inf  # validation loss
    best_epoch: int = -1
    history: list[str] = field(default_factory=list)  # trainings whose weights this one began with
    processes: int = 1  # that share each batch

    @property
    def modules(self) -> list[nn.Module]:
        """All that is learnt."""
        return [self.network, self.audio_head]


def start(config: TrainConfig, processes: int = 1) -> State:
    """A new network, one that begins with the weights of `init_from`, or with `resume` the state of last.pt."""
    device = pick_device(config)
    network = build(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    audio_head = nn.Linear(config.network.n_audio_features, len(config.labels)).to(device)
    with torch.no_grad():  # decibels have a large mean: filters that ignore it are better conditioned
        network.f.conv1.weight -= network.f.conv1.weight.mean(dim=(2, 3), keepdim=True)
    if config.freeze_listener:
        network.f.requires_grad_(False)
    learnt = [p for part in (network, audio_head) for p in part.parameters() if p.requires_grad]
    state = State(network, audio_head, torch.optim.Adam(learnt, lr=config.learning_rate), processes=processes)
    if config.init_from is not None and not config.resume:
        stored = read_checkpoint(config.init_from, config, same_variant=False)
        prefixes = ("f.",) if config.fresh_heads else ("f.", "g.", "h.")
        wanted = {name: tensor for name, tensor in stored["network"].items() if name.startswith(prefixes)}
        network.load_state_dict(network.state_dict() | wanted)
        audio_head.load_state_dict(stored["audio_head"])
        state.history = [*stored["history"], stored["config"]]
    if config.resume:
        _go_on(state, config)
    return state


def _go_on(state: State, config: TrainConfig) -> None:
    path = config.output / "last.pt"
    stored = read_checkpoint(path, config, same_variant=True)
    check_settings(path, stored, config)
    if stored.get("processes", 1) != state.processes:
        theirs = stored.get("processes", 1)
        raise CheckpointError(f"{path}: trained by {theirs} processes, not {state.processes}; start as many")
    state.network.load_state_dict(stored["network"])
    state.audio_head.load_state_dict(stored["audio_head"])
    state.optimizer.load_state_dict(stored["optimizer"])
    for name in (*COUNTERS, "history"):
        setattr(state, name, stored[name])


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
            raise CheckpointError(
                f"{path}: its {name} is {stored.get(name)}, this training's is {value}; name the checkpoint of such a "
                "training, or give the option it was trained with"
            )
    return stored


def check_settings(path: Path, stored: dict[str, Any], config: TrainConfig) -> None:
    """Raises CheckpointError if going on with `config` could not give the result of the training that was begun."""
    may_change = MAY_CHANGE | (set() if config.schedule == "cosine" else {"epochs"})
    for name, theirs, ours in changed_settings(stored["config"], config, may_change):
        raise CheckpointError(
            f"{path}: it was trained with {name} = {theirs}, not {ours}; give the same to --resume, or "
            f"begin another training with --init-from {path} and another --output"
        )


def changed_settings(stored: str, config: TrainConfig, may_change: Collection[str]) -> list[tuple[str, Any, Any]]:
    """Name, value in `stored` (of `TrainConfig.as_json`) and value now of what differs, without what may."""
    theirs, ours = json.loads(stored), json.loads(config.as_json())
    names = sorted(ours.keys() & theirs.keys() - set(may_change))
    return [(name, theirs[name], ours[name]) for name in names if theirs[name] != ours[name]]


def check_data(path: Path, config: TrainConfig, data: Data) -> None:
    """Raises CheckpointError if the rows are not those that the training at `path` was begun with."""
    stored = checkpoint.load(path)
    if stored.get("data", fingerprint(data)) != fingerprint(data):
        rows, now = stored["rows"], count_rows(data)
        raise CheckpointError(
            f"{path}: the manifest has changed since ({rows['audio']} rows with audio and {rows['text']} without then, "
            f"{now['audio']} and {now['text']} now, or others); restore it, or begin anew with --init-from {path}"
        )
    if stored.get("audio", audio_fingerprint(data)) != audio_fingerprint(data):
        raise CheckpointError(
            f"{path}: audio files have changed since: the rows are the same, what is heard is not; restore them, or begin "
            f"another training with --init-from {path} and another --output"
        )


def count_rows(data: Data) -> dict[str, int]:
    """Of training."""
    return {"audio": len(data.train.labels), "text": len(data.train.text_labels)}


def fingerprint(data: Data) -> str:
    """Of what is learnt from, but for the audio itself."""
    digest = hashlib.sha256()
    for split in (data.train, data.valid):
        for array in (split.labels, split.x_lang, split.text_labels, split.text_x_lang):
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def audio_fingerprint(data: Data) -> str:
    """Of the audio that is learnt from and validated on, as it was decoded: files may move or be touched."""
    caches = [data.spectrograms.get(split, data.waveforms) for split in ("train", "valid")]
    return "-".join(cache.fingerprint(rows.rows) for cache, rows in zip(caches, (data.train, data.valid), strict=True))


def save(name: str, config: TrainConfig, data: Data, state: State) -> None:
    """Writes a checkpoint into the training's folder. Raises CheckpointError, and TrainingError if weights broke down."""
    for key, tensor in state.network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise broken_down(config, f"the weights {key} hold NaN or infinite values in epoch {state.epoch}")
    checkpoint.save(config.output / name, as_dict(config, data, state))


def broken_down(config: TrainConfig, what: str) -> TrainingError:
    """What to do about losses and weights that are not finite."""
    last = config.output / "last.pt"
    again = f"{last} is intact: begin another training with --init-from {last} and" if last.exists() else "begin again with"
    or_else = "" if config.precision == "fp32" else ", or with --precision fp32"
    return TrainingError(f"{what}; {again} a --learning-rate under {config.learning_rate:g}{or_else}")


def as_dict(config: TrainConfig, data: Data, state: State) -> dict[str, Any]:
    """All that `start` and a release need."""
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
        "rows": count_rows(data),
        "data": fingerprint(data),
        "audio": audio_fingerprint(data),
        "processes": state.processes,
        "network": state.network.state_dict(),
        "audio_head": state.audio_head.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        **{name: getattr(state, name) for name in COUNTERS},
    }
