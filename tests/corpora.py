"""A corpus small enough to train on in seconds: tones for audio, a few names for metadata."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from app.families.contract import Label
from app.families.lrid_net.config import ListenConfig, NetworkConfig
from app.lab.corpus.tables import read_table, write_table

LABELS = (
    Label(code="en", iso639_3="eng", name="English"),
    Label(code="fr", iso639_3="fra", name="French"),
    Label(code="ja", iso639_3="jpn", name="Japanese"),
)
TITLES = {
    "en": "waiting for the morning rain with you number",
    "fr": "je ne regrette rien de la vie numéro",
    "ja": "桜の花が咲く頃に",
}
PITCH_HZ = {"en": 200.0, "fr": 500.0, "ja": 1200.0}
RATE_HZ = 22_050
LISTEN = ListenConfig(window_seconds=1.0)
NETWORK = NetworkConfig(base_channels=4, stage_blocks=[1, 1, 1, 1], text_units=8, text_layers=2, identify_units=8)


def tone(pitch_hz: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = rng.normal(0, 0.01, len(t))
    return (0.3 * np.sin(2 * np.pi * pitch_hz * rng.uniform(0.97, 1.03) * t) + noise).astype(np.float32)


def write_corpus(folder: Path, train: int = 6, valid: int = 4) -> Path:
    """`train` and `valid` rows of each class; the manifest."""
    rng = np.random.default_rng(0)
    lines = ["path\tartist\talbum\ttitle\tlabel\tsplit"]
    for split, n in (("train", train), ("valid", valid), ("test", 2)):
        for i in range(n):
            for code, title in TITLES.items():
                name = f"{split}-{code}-{i}.wav"
                sf.write(folder / name, tone(PITCH_HZ[code], 0.7 + 0.1 * i, rng), RATE_HZ)
                lines.append(f"{name}\t{split} singer {code} {i}\t\t{title} {i}\t{code}\t{split}")
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def tiny_training(corpus: Path, output: Path) -> dict[str, Any]:
    """Settings of a training by `lrid_net` that takes a second."""
    return {
        "catalogue": corpus,
        "output": output,
        "cache": corpus.parent / "cache",
        "epochs": 2,
        "batch_size": 6,
        "crop_seconds": 0.5,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "labels": LABELS,
        "listen": LISTEN,
        "network": NETWORK,
        "learning_rate": 3e-3,
    }


def edited(catalogue: Path, line: int, **cells: str) -> Path:
    """A copy beside it with other cells in one record."""
    read = read_table(catalogue)
    records = list(read.records.values())
    records[line] |= cells
    write_table(path := catalogue.with_name("edited.csv"), read.columns, records)
    return path
