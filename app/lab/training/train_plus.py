"""Train the text side of an `lrid_net_plus`: the table of n-grams, g, and the text's part of h. Read `train_text` first.

No audio is needed: with the audio's part of h at zero, every f gives the same answers. `plus_audio.fit_audio` may learn
that part later, for a given f, without changing any answer to text alone.

Every step draws from a generator of its own, seeded by (seed, step). So `resume` needs no random states to go on to
the same weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, embedding_bag, linear, relu

from app.families.contract import Label
from app.families.lrid_net.config import NetworkConfig
from app.families.lrid_net.network import LridNet
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net_plus.config import PlusReadConfig
from app.families.lrid_net_plus.read import FieldReader
from app.families.parts.ngrams.config import N_FIELDS
from app.families.prior import MUSIC4ALL
from app.lab.corpus.tables import read_table
from app.lab.training import checkpoint
from app.lab.training.corpus import Row, check_artists, read_manifest
from app.lab.training.errors import CheckpointError, TrainingError
from app.lab.training.labels import PAPER_LABELS
from app.lab.training.plus_data import (
    Batch,
    Drawer,
    Float64,
    Habits,
    Shelf,
    Texts,
    draw_probabilities,
    is_latin,
    latin_surplus,
    read_phrases,
    texts_of,
)

STRENGTH_WEIGHTS = {"strong-": 1.0, "strong": 4.0, "weak": 0.5, "script": 0.5, "phrase": 3.0}
LATIN_WEIGHTS = {"ja": 0.1, "ko": 0.1}  # of rows in Latin letters alone, of classes whose own script tells them
LATIN_SHARES = {"ja": 0.002, "ko": 0.002}  # what is left of their share in the batches where all text is in Latin letters
ROWS_AT_ONCE = 1024  # when nothing is learnt


@dataclass(frozen=True, kw_only=True)
class PlusConfig:
    """One training. Everything but `resume`, `threads` and the places of files decides the result."""

    manifest: Path
    output: Path  # text.pt, log.jsonl, config.json
    labels: tuple[Label, ...] = PAPER_LABELS
    class_counts: Mapping[str, float] = field(default_factory=lambda: dict(MUSIC4ALL))  # of the catalogues to come
    class_power: float = 0.5  # rows are drawn by count ** power: this is the prior in the answers
    strength_weights: Mapping[str, float] = field(default_factory=lambda: dict(STRENGTH_WEIGHTS))  # by prefix, else 1
    source_weights: Mapping[str, float] = field(default_factory=dict)  # by the manifest's column `source`, else 1
    latin_weights: Mapping[str, float] = field(default_factory=lambda: dict(LATIN_WEIGHTS))  # by class, else 1
    latin_shares: Mapping[str, float] = field(default_factory=lambda: dict(LATIN_SHARES))  # by class, else 1
    artist_power: float = 0.5  # an artist of n rows counts as n ** power
    phrases: bool = True  # `phrases.json` beside the manifest's rows
    habits: Habits = field(default_factory=Habits)

    epochs: int = 6
    rows_per_epoch: int = 40_960  # drawn with replacement
    batch_size: int = 512
    learning_rate: float = 3e-3  # of g and h; AdamW, warm-up, then cosine to zero
    table_learning_rate: float = 5e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01  # of g and h
    unit_dropout: float = 0.2
    label_smoothing: float = 0.0  # more would cap what a script or a rare word says, which another class mix must outweigh
    seed: int = 0
    threads: int = 0  # of torch; 0 = its default
    resume: bool = False

    read: PlusReadConfig = field(default_factory=lambda: PlusReadConfig(languages=list(langdetect_languages())))
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(text_layers=1))

    @property
    def codes(self) -> list[str]:
        return [label.code for label in self.labels]

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self.rows_per_epoch // self.batch_size)

    def class_mix(self) -> Float64:
        """(n_classes,) Raises TrainingError if a class has no count."""
        if lacking := [code for code in self.codes if not self.class_counts.get(code, 0) > 0]:
            raise TrainingError(f"class_counts: no count for {', '.join(lacking)}; give one to every class")
        weights = np.array([float(self.class_counts[code]) for code in self.codes]) ** self.class_power
        return weights / weights.sum()  # type: ignore[no-any-return]

    def as_json(self) -> str:
        plain = asdict(self) | {"labels": self.codes, "class_mix": self.class_mix().round(5).tolist()}
        plain |= {"read": self.read.model_dump(), "network": self.network.model_dump()}
        return json.dumps(plain, default=str, indent=1)


class TextNet(nn.Module):
    """The table, g, and of h what the text alone decides."""

    def __init__(self, config: PlusConfig) -> None:
        super().__init__()
        thin = config.network.model_copy(update={"base_channels": 1, "stage_blocks": [1, 1, 1, 1]})  # f is not trained
        whole = LridNet(thin, n_text=config.read.n_features, n_classes=len(config.labels))
        self.table = nn.Parameter(0.05 * torch.randn(config.read.n_buckets, config.read.embedding_size))
        self.g, self.h = whole.g, whole.h
        self.n_audio = thin.n_audio_features
        self.unit_dropout = config.unit_dropout
        with torch.no_grad():
            self.h[0][0].weight[:, : self.n_audio] = 0.0  # type: ignore[index]

    def forward(self, batch: Batch) -> Tensor:
        """n rows → logits (n, n_classes)."""
        return self.identify(self.read(batch))

    def read(self, batch: Batch) -> Tensor:
        """n rows → s_text (n, 128)."""
        sums = embedding_bag(batch.buckets, self.table, batch.offsets, mode="sum", per_sample_weights=batch.weights)
        x = torch.cat([sums.view(-1, N_FIELDS * self.table.shape[1]), batch.counted], dim=1)  # (n, n_features)
        for layer in self.g:
            x = dropout(layer(x), self.unit_dropout, self.training)  # (n, 128)
        return x

    def identify(self, s_text: Tensor, audio: Tensor | float = 0.0) -> Tensor:
        """(n, 128), and what the audio adds to h's first layer, (n, 256) → logits (n, n_classes)."""
        first, norm = self.h[0][0], self.h[0][1]  # type: ignore[index]
        hidden = relu(norm(linear(s_text, first.weight[:, self.n_audio :], first.bias) + audio))  # (n, 256)
        return self.h[1](dropout(hidden, self.unit_dropout, self.training))  # type: ignore[no-any-return]


def train_text(config: PlusConfig) -> Path:
    """Trains for all epochs; returns the checkpoint. Raises TrainingError and its kinds."""
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "config.json").write_text(config.as_json(), encoding="utf-8")
    train_rows, valid_rows = rows_of(config)
    drawer = Drawer(train_rows, probabilities_of(train_rows, config), config.habits)
    shelf = Shelf(FieldReader(config.read))
    network = TextNet(config)
    optimizer = _optimizer(network, config)
    done = _resume(network, optimizer, config) if config.resume else 0
    console = Console()
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*bars, console=console) as progress:
        for epoch in range(done, config.epochs):
            task = progress.add_task(f"epoch {epoch}", total=config.steps_per_epoch)
            network.train()
            losses = []
            for step in range(config.steps_per_epoch):
                losses.append(_step(config, drawer, shelf, network, optimizer, epoch * config.steps_per_epoch + step))
                progress.advance(task)
            progress.remove_task(task)
            line = {"epoch": epoch, "train_loss": round(float(np.mean(losses)), 4), **_score(network, shelf, valid_rows)}
            with (config.output / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            console.print(line, highlight=False)
            checkpoint.save(config.output / "text.pt", _as_dict(network, optimizer, config, epoch + 1, len(train_rows)))
    return config.output / "text.pt"


def rows_of(config: PlusConfig) -> tuple[list[Row], list[Row]]:
    """Rows to train on, phrases among them, and rows to validate on: those whose label is not by their script."""
    rows = [row for row in read_manifest(config.manifest, config.codes) if row.metadata.fields]
    check_artists(rows)
    train_rows = [row for row in rows if row.split == "train"]
    if config.phrases:
        train_rows += read_phrases(config.codes, [row.metadata.title or "" for row in rows if row.split != "train"])
    return train_rows, [row for row in rows if row.split == "valid" and row.strength != "script"]


def probabilities_of(rows: Sequence[Row], config: PlusConfig) -> Float64:
    """(n_rows,) by which training rows are drawn."""
    sources = sources_of(config.manifest) if config.source_weights else {}
    own = np.array([config.source_weights.get(sources.get(row.line, ""), 1.0) for row in rows])
    rare = {config.codes.index(code): weight for code, weight in config.latin_weights.items() if code in config.codes}
    own *= [rare[row.label] if row.label in rare and is_latin(row.metadata.joined) else 1.0 for row in rows]
    return draw_probabilities(rows, config.class_mix(), config.strength_weights, config.artist_power, own)


def sources_of(manifest: Path) -> dict[int, str]:
    """The manifest's column `source` by row number; phrases have none."""
    return {number: record.get("source", "") for number, record in read_table(manifest).records}


def fit_rows(config: PlusConfig, rows: Sequence[Row], shelf: Shelf) -> TextNet:
    """The network after all epochs on these rows, without checkpoints."""
    torch.manual_seed(config.seed)
    drawer = Drawer(rows, probabilities_of(rows, config), config.habits)
    network = TextNet(config)
    optimizer = _optimizer(network, config)
    network.train()
    for number in range(config.epochs * config.steps_per_epoch):
        _step(config, drawer, shelf, network, optimizer, number)
    return network.eval()


def _step(
    config: PlusConfig, drawer: Drawer, shelf: Shelf, network: TextNet, optimizer: torch.optim.Optimizer, number: int
) -> float:
    """One batch, the `number`th since the beginning; returns its loss."""
    rng = np.random.default_rng([config.seed, number])
    torch.manual_seed(int(rng.integers(2**62)))  # for dropout
    chosen = drawer.draw(config.batch_size, rng)
    texts = [drawer.likeness(int(i), rng) for i in chosen]
    surplus = latin_surplus(texts, [config.latin_shares.get(code, 1.0) for code in config.codes])
    logits = network(shelf.batch(texts, rng, config.habits.drop_ngram)) + surplus
    loss = cross_entropy(logits, torch.from_numpy(drawer.labels[chosen]), label_smoothing=config.label_smoothing)
    if not torch.isfinite(loss):
        raise TrainingError(
            f"the loss became {loss.item()} in step {number}; the last checkpoint is intact: train again with "
            f"a learning rate under {config.learning_rate:g}"
        )
    rate = _schedule(number, config)
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.item())


def _schedule(step: int, config: PlusConfig) -> float:
    """Linear warm-up, then a cosine that reaches zero with the last step."""
    total = config.epochs * config.steps_per_epoch
    return min(1.0, (step + 1) / max(1, config.warmup_steps)) * 0.5 * (1 + math.cos(math.pi * step / total))


def _optimizer(network: TextNet, config: PlusConfig) -> torch.optim.Optimizer:
    others = [p for name, p in network.named_parameters() if name != "table"]
    groups = [
        {"params": [network.table], "full_rate": config.table_learning_rate, "weight_decay": 0.0},
        {"params": others, "full_rate": config.learning_rate, "weight_decay": config.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


@torch.no_grad()
def predict(network: TextNet, shelf: Shelf, texts: Sequence[Texts]) -> Tensor:
    """n rows → logits (n, n_classes)."""
    network.eval()
    parts = [network(shelf.batch(texts[i : i + ROWS_AT_ONCE])) for i in range(0, len(texts), ROWS_AT_ONCE)]
    return torch.cat(parts)


def _score(network: TextNet, shelf: Shelf, rows: Sequence[Row]) -> dict[str, float]:
    if not rows:
        return {}
    logits = predict(network, shelf, [texts_of(row.metadata) for row in rows])
    labels = torch.tensor([row.label for row in rows])
    right = (logits.argmax(dim=1) == labels).float().mean()
    return {"valid_loss": round(cross_entropy(logits, labels).item(), 4), "valid_accuracy": round(right.item(), 4)}


def _as_dict(
    network: TextNet, optimizer: torch.optim.Optimizer, config: PlusConfig, epoch: int, n_rows: int
) -> dict[str, object]:
    return {
        "variant": "plus-text",
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "n_rows": n_rows,
        "config": config.as_json(),
    }


def _resume(network: TextNet, optimizer: torch.optim.Optimizer, config: PlusConfig) -> int:
    """Restores the last whole epoch; returns how many are done. Raises CheckpointError."""
    stored = read_checkpoint(config.output / "text.pt", config)
    network.load_state_dict(stored["network"])
    optimizer.load_state_dict(stored["optimizer"])
    return int(stored["epoch"])


def load_text(path: Path, config: PlusConfig) -> tuple[TextNet, int]:
    """A trained network, and how many rows it was trained on. Raises CheckpointError."""
    stored = read_checkpoint(path, config)
    network = TextNet(config)
    network.load_state_dict(stored["network"])
    return network.eval(), int(stored["n_rows"])


PLACES = ("manifest", "output", "threads", "resume")


def read_checkpoint(path: Path, config: PlusConfig) -> dict[str, Any]:
    """Raises CheckpointError if it is of another training than `config`."""
    stored = checkpoint.load(path)
    if stored["variant"] != "plus-text":
        raise CheckpointError(
            f"{path} is of variant {stored['variant']!r}, expected 'plus-text'; choose another run's folder"
        )
    theirs, ours = json.loads(stored["config"]), json.loads(config.as_json())
    for name in ours.keys() - set(PLACES):
        if theirs.get(name) != ours[name]:
            raise CheckpointError(
                f"{path}: its {name} is {theirs.get(name)}, this training's is {ours[name]}; choose another run's folder"
            )
    return stored
