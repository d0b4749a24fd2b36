"""What `lrid train` is told, and the paper's variants. Defaults are the paper's where it states them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from app.families.contract import Label
from app.families.lrid_net.config import ListenConfig, NetworkConfig
from app.lab.training.errors import TrainingError
from app.lab.training.labels import PAPER_LABELS

VariantName = Literal["main", "adr", "tdr", "atdr", "to", "ao"]


@dataclass(frozen=True, slots=True)
class Variant:
    """Which modalities are used, and which are dropped at random (paper §3.4, table 2)."""

    audio: bool
    text: bool
    drop_audio: bool
    drop_text: bool


VARIANTS: dict[str, Variant] = {
    "main": Variant(audio=True, text=True, drop_audio=False, drop_text=False),
    "adr": Variant(audio=True, text=True, drop_audio=True, drop_text=False),
    "tdr": Variant(audio=True, text=True, drop_audio=False, drop_text=True),
    "atdr": Variant(audio=True, text=True, drop_audio=True, drop_text=True),
    "to": Variant(audio=False, text=True, drop_audio=False, drop_text=False),
    "ao": Variant(audio=True, text=False, drop_audio=False, drop_text=False),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training. Everything but `resume`, `threads` and the places of files decides the result."""

    manifest: Path
    output: Path  # last.pt, best.pt, log.csv, curves.png, config.json
    variant: VariantName = "atdr"
    text_manifest: Path | None = None  # more rows; of these only the metadata is used
    cache: Path | None = None  # decoded audio and text vectors; default: output / "cache"

    epochs: int = 200
    patience_epochs: int = 20  # without a better validation loss (paper §4.2)
    batch_size: int = 32  # rows with audio
    text_rows_per_batch: int = 0  # rows with metadata only, added to each batch; their audio is missing
    steps_per_epoch: int = 0  # 0 = one pass over the rows with audio (over the others when there are none)
    text_class_power: float = 0.5  # text rows of a class are drawn in proportion to count ** this
    weak_weight: float = 0.5  # of text rows whose `strength` begins with "weak", against 1 for all others
    crop_seconds: float = 30.0  # of training audio, anywhere; 0 = whole windows, which validation always hears
    spectrogram_cache: bool = False  # keep log-mel spectrograms instead of samples: less work, more disk
    learning_rate: float = 1e-3  # Adam
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    dropout_rate: float = 0.2  # paper §3.4
    audio_loss_weight: float = 0.0  # of a training-only classifier on s_audio alone; 0 is the paper's
    augment: bool = False
    init_from: Path | None = None  # checkpoint whose weights to start from
    fresh_heads: bool = False  # of `init_from` take f only; g and h begin anew
    freeze_listener: bool = False  # train g and h only, on whole windows heard once by the f of `init_from`
    validate_items: int = 0  # rows with audio heard at each validation, drawn once; 0 = all
    checkpoint_minutes: float = 10.0  # between checkpoints inside an epoch; one is written after each epoch anyway
    seed: int = 0

    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of f
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0  # of torch on the CPU; 0 = its default
    resume: bool = False

    labels: tuple[Label, ...] = PAPER_LABELS
    listen: ListenConfig = field(default_factory=ListenConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    text_seed: int = 0  # of langdetect

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise TrainingError(f"unknown variant {self.variant!r}; known: {', '.join(VARIANTS)}")
        for name, value, known in (
            ("precision", self.precision, ("auto", "fp32", "bf16")),
            ("device", self.device, ("auto", "cpu", "cuda")),
            ("schedule", self.schedule, ("constant", "cosine")),
        ):
            if value not in known:
                raise TrainingError(f"unknown {name} {value!r}; known: {', '.join(known)}")
        kind = VARIANTS[self.variant]
        if self.text_rows_per_batch and kind.audio and not kind.drop_audio:
            raise TrainingError(
                f"rows without audio are a kind of audio dropout, which variant {self.variant!r} does without; "
                "use adr or atdr, or text_rows_per_batch = 0"
            )
        if (self.freeze_listener or self.fresh_heads) and self.init_from is None:
            raise TrainingError("freeze_listener and fresh_heads need init_from: the checkpoint whose f to take")
        if self.spectrogram_cache and self.augment:
            raise TrainingError("augment changes the speed of samples, a spectrogram cache has none: choose one of them")
        if self.spectrogram_cache and not 0 < self.crop_seconds <= self.listen.window_seconds:
            raise TrainingError(f"a spectrogram cache needs crops of over 0 and at most {self.listen.window_seconds:g} s")
        if self.spectrogram_cache and self.freeze_listener:
            raise TrainingError("freeze_listener hears everything once, from samples: leave out the spectrogram cache")
        if self.batch_size < 2:
            raise TrainingError("batch_size must be at least 2: BatchNorm needs more than one row")

    @property
    def crop_samples(self) -> int:
        return round((self.crop_seconds or self.listen.window_seconds) * self.listen.sample_rate_hz)

    @property
    def crop_frames(self) -> int:
        return (self.crop_samples - self.listen.fft_size) // self.listen.hop_size + 1

    @property
    def codes(self) -> list[str]:
        return [label.code for label in self.labels]

    def as_json(self) -> str:
        """All settings, for people and for manifests; models as plain objects."""
        plain = asdict(self) | {
            "labels": self.codes,
            "listen": self.listen.model_dump(),
            "network": self.network.model_dump(),
        }
        return json.dumps(plain, default=str, indent=2)
