"""Rows made for the tests of `lrid_net_plus`, in three languages, and what is trained on them once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.families.contract import Label
from app.families.lrid_net.config import NetworkConfig
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net_plus.config import PlusReadConfig
from app.families.lrid_net_plus.read import FieldReader
from app.lab.training.corpus import Row, read_manifest
from app.lab.training.plus_data import Shelf
from app.lab.training.plus_folds import HeldOut, held_out_answers
from app.lab.training.train_plus import PlusConfig, TextNet, load_text, train_text

LABELS = (
    Label(code="en", iso639_3="eng", name="English"),
    Label(code="fr", iso639_3="fra", name="French"),
    Label(code="de", iso639_3="deu", name="German"),
)
WORDS = {
    "en": ["the night", "love", "rain", "waiting", "my heart", "of you", "summer", "away"],
    "fr": ["la nuit", "l'amour", "sous la pluie", "j'attends", "mon cœur", "de toi", "l'été", "ailleurs"],
    "de": ["die Nacht", "Liebe", "der Regen", "ich warte", "mein Herz", "von dir", "Sommer", "über alles"],
}
TINY = {"epochs": 3, "rows_per_epoch": 1600, "batch_size": 32, "warmup_steps": 4, "threads": 1}


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    lines = ["split\tlabel\tlanguage\tstrength\tsource\tartist\talbum\ttitle"]
    for split, n in (("train", 60), ("valid", 20), ("test", 20)):
        for code, words in WORDS.items():
            for i in range(n):
                title, album = (" ".join(rng.choice(words, 2, replace=False)) for _ in range(2))
                album = album if i % 3 else ""
                lines.append(f"{split}\t{code}\t{code}\tstrong\tmade\tArtist {split} {code} {i // 4}\t{album}\t{title}")
    path = tmp_path_factory.mktemp("corpus") / "metadata.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def config(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> PlusConfig:
    return PlusConfig(
        manifest=manifest,
        output=tmp_path_factory.mktemp("run"),
        labels=LABELS,
        class_counts={"en": 4, "fr": 1, "de": 1},
        read=PlusReadConfig(languages=list(langdetect_languages()), buckets_log2=10, embedding_size=4),
        network=NetworkConfig(text_units=16, identify_units=16),
        phrases=False,
        **TINY,
    )


@pytest.fixture(scope="session")
def trained(config: PlusConfig) -> TextNet:
    train_text(config)
    return load_text(config.output / "text.pt", config)[0]


@pytest.fixture(scope="session")
def rows(manifest: Path, config: PlusConfig) -> list[Row]:
    return read_manifest(manifest, config.codes)


@pytest.fixture(scope="session")
def shelf(config: PlusConfig) -> Shelf:
    return Shelf(FieldReader(config.read))


@pytest.fixture(scope="session")
def held_out(config: PlusConfig) -> HeldOut:
    return held_out_answers(config, ["made"], n_folds=2)
