"""Settings of the recipe `multimodal`; the defaults are the paper's where it prints one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from app.families.contract import Label
from app.families.multimodal.manifest import ResNetConfig, SegmentConfig
from app.lab.evaluation.answers import REST
from app.lab.labels import WORLD_LABELS
from app.lab.training.config import TrainConfig
from app.settings import Settings

CODES = ("de", "en", "es", "fr", "hi", "it", "ja", "pa", "ta", "te", REST)  # the paper's, §4.1
Modality = Literal["vocals", "timbral", "consumption"]


class MultimodalConfig(TrainConfig):
    """Ears are those of a release (`start`) or of a Whisper checkpoint."""

    labels: tuple[Label, ...] = tuple(label for code in CODES for label in WORLD_LABELS if label.code == code)
    start: str = "lrid_voice"  # without a number, the newest
    store: Path = Field(default_factory=lambda: Settings().model_store)  # where `start` is
    checkpoint: Path | None = None  # a Whisper's model.safetensors, instead of `start`
    n_positions: int = Field(500, ge=1)  # of 20 ms, in a window; with `checkpoint`
    features: Path | None = None  # a folder with index.csv and windows.npz, instead of the catalogue's audio: no timbre
    made_sessions: bool = False  # with `features`: consumption data made from the labels
    inputs: tuple[Modality, ...] = ("vocals", "timbral", "consumption")
    replica: Literal["none", "Z", "Z+G", "A", "A+G"] = "A"  # of each song without consumption: zeros or average, with noise
    noise: float = Field(0.1, ge=0)  # of +G, in standard deviations of each number
    audio_replica: bool = False  # another of each song that has consumption data, without audio
    segments: SegmentConfig = SegmentConfig()
    network: ResNetConfig = ResNetConfig()
    n_mels: int = Field(40, gt=0)
    n_codewords: int = Field(64, gt=0)
    variance: float = Field(0.95, gt=0, lt=1)  # that the principal components keep
    most_windows: int = Field(8, ge=1)  # of a song

    epochs: int = Field(50, ge=1)
    patience_epochs: int = Field(50, ge=1)  # the paper stops after its epochs
    batch_size: int = Field(64, ge=2)
    weight_decay: float = Field(1e-3, ge=0)
    schedule: Literal["constant", "cosine", "plateau"] = "plateau"
