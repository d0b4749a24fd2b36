"""Genres from audio and lyrics (the proposal of Wong & Chemelli): one label, cross-entropy. Read `loss` first.

A batch is numbers of songs. Each is heard for one window from anywhere in it, and its lyrics are read whole. Modality
dropout is ours (Choi & Wang 2021, §3.4), so that the network answers when one of the two is missing.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.domain import AUDIO, LYRICS
from app.families.contract import Label
from app.families.genre.manifest import GenreManifest, Modalities, ReadConfig, SeeConfig, used_modalities
from app.families.genre.network import GenreNetwork
from app.families.genre.words import WordReader, vocabulary_of
from app.families.golden import Tone
from app.families.parts.log_mel_16khz import LogMel16kHz
from app.families.parts.modality_dropout import ModalityDropout
from app.families.parts.weights import COUNTER
from app.lab.errors import CheckpointError
from app.lab.evaluation.metrics import average
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Recipe
from app.lab.training.recipes.genre_data import IntArray, Songs, genres_of, lyrics_of, rows_by_split, songs_of

SONGS_AT_ONCE = 64


class GenreConfig(TrainConfig):
    """The proposal names no sizes: these train in minutes on a CPU."""

    labels: tuple[Label, ...] = ()  # genres; (): all in the catalogue
    modalities: Modalities = "both"  # either alone is what fusion is compared with
    dropout_rate: float = Field(0.2, ge=0, lt=1)  # of whole items of each modality
    see: SeeConfig = Field(default_factory=SeeConfig)
    read: ReadConfig = Field(default_factory=ReadConfig)
    fused_units: int = Field(64, gt=0)
    vocabulary_size: int = Field(4000, ge=1)  # principal words: at most so many,
    least_songs: int = Field(2, ge=1)  # each in so many songs at least,
    most_share: float = Field(0.5, gt=0, le=1)  # and in so large a share of the songs at most

    @property
    def used(self) -> frozenset[str]:
        return used_modalities(self.modalities)


class GenreRecipe(Recipe[GenreConfig, IntArray]):
    """A convolutional network and an LSTM, concatenated."""

    name: ClassVar[str] = "genre"
    family: ClassVar[str] = "genre"
    config_type: ClassVar[type[TrainConfig]] = GenreConfig

    def prepare(self, progress: Progress) -> None:
        config = self.config
        self.codes = config.codes or genres_of(config.catalogue)
        train, valid = rows_by_split(config.catalogue, self.codes, config.used)
        texts = [text for row in train if (text := lyrics_of(row))] if LYRICS in config.used else []
        self.vocabulary = vocabulary_of(texts, config.read, config.vocabulary_size, config.least_songs, config.most_share)
        reader = WordReader(config.read, self.vocabulary) if LYRICS in config.used else None
        kept = (config.see if AUDIO in config.used else None, reader, config.cache_folder, progress)
        self.songs, self.valid = songs_of(train, *kept), songs_of(valid, *kept)
        self.n_examples = len(self.songs.rows)
        self._log_mel = LogMel16kHz(config.see.mel_bands).to(config.torch_device)

    def build(self) -> GenreNetwork:
        config = self.config
        sizes = len(self.vocabulary), config.fused_units, len(self.codes)
        network = GenreNetwork(config.see, config.read, config.used, *sizes)
        network.dropout = ModalityDropout(config.dropout_rate if config.modalities == "both" else 0.0)
        return network

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Cross-entropy."""
        return cross_entropy(self._logits(network, self.songs, batch, rng), self._truth(self.songs, batch))

    def _logits(
        self, network: nn.Module, songs: Songs, numbers: IntArray, rng: np.random.Generator | None = None, lacking: str = ""
    ) -> Tensor:
        """(n, n_classes); `lacking`: a modality that is taken away."""
        device, log_mel, words = self.config.torch_device, None, None
        if AUDIO in self.config.used:
            log_mel = self._log_mel(torch.from_numpy(songs.samples(numbers, rng)).to(device))
            given = [songs.rows[i].path is not None and lacking != AUDIO for i in numbers.tolist()]
            log_mel = log_mel * torch.tensor(given, device=device)[:, None, None]
        if LYRICS in self.config.used:
            words = songs.word_numbers(numbers).to(device) * (lacking != LYRICS)
        return network(log_mel, words)  # type: ignore[no-any-return]

    def _truth(self, songs: Songs, numbers: IntArray) -> Tensor:
        return torch.from_numpy(songs.labels[numbers]).to(self.config.torch_device)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Loss, accuracy and macro F1 with all that is given, and accuracy where either is taken away."""
        numbers = np.arange(len(self.valid.rows))
        parts = np.array_split(numbers, -(-len(numbers) // SONGS_AT_ONCE))
        cases = {"": ""}
        if self.config.modalities == "both":
            cases |= {"_without_audio": AUDIO, "_without_lyrics": LYRICS}
        scores: dict[str, float] = {}
        for case, lacking in cases.items():
            logits = torch.cat([self._logits(network, self.valid, part, lacking=lacking) for part in parts])
            best = logits.argmax(dim=1).cpu().numpy()
            if not case:
                scores["loss"] = cross_entropy(logits, self._truth(self.valid, numbers)).item()
                scores["macro_f1"] = average(self.valid.labels, best, "macro").f1
            scores[f"accuracy{case}"] = float((best == self.valid.labels).mean())
        return scores

    def fingerprint(self) -> str:
        heard = [
            songs.waveforms.fingerprint([row for row in songs.rows if row.path is not None])
            for songs in (self.songs, self.valid)
            if songs.waveforms is not None
        ]
        read = json.dumps([(row.label, lyrics_of(row)) for row in self.songs.rows + self.valid.rows])
        return "".join([*heard, hashlib.sha256(read.encode()).hexdigest()[:16]])

    def facts(self) -> dict[str, Any]:
        """Genres, vocabulary, counts and the class mix."""
        mix = np.bincount(self.songs.labels, minlength=len(self.codes)) / len(self.songs.rows)
        audio = sum(row.path is not None for row in self.songs.rows) if AUDIO in self.config.used else 0
        return {
            "codes": self.codes,
            "vocabulary": self.vocabulary,
            "rows": {"audio": audio, "lyrics": sum(len(words) > 0 for words in self.songs.words)},
            "class_prior": dict(zip(self.codes, mix.round(5).tolist(), strict=True)),
        }

    def export(self, stored: dict[str, Any]) -> Draft:
        """All in fp32."""
        if broken := [name for name, tensor in stored["network"].items() if not torch.isfinite(tensor).all()]:
            raise CheckpointError(f"the checkpoint's tensor {broken[0]!r} holds NaN or infinite values: train again")
        facts, config = dict(stored["facts"]), self.config
        codes, vocabulary = facts.pop("codes"), facts.pop("vocabulary")
        manifest = GenreManifest(
            family="genre",
            release="draft",
            created=date.today(),
            labels=list(config.labels) or [Label(code=code, iso639_3=None, name=code.capitalize()) for code in codes],
            sha256="0" * 64,
            training=facts,
            metrics={},
            modalities=config.modalities,
            see=config.see,
            read=config.read,
            vocabulary=vocabulary,
            fused_units=config.fused_units,
        )
        tensors = {name: t.float().contiguous() for name, t in stored["network"].items() if COUNTER not in name}
        what = {"both": "spectrograms and lyrics, concatenated", "audio": "spectrograms alone", "lyrics": "lyrics alone"}
        known = {"further": {LYRICS: " ".join(vocabulary[: config.read.most_words])}}
        golden = (known, {"audio": Tone(pitch_hz=220)} | known) if LYRICS in config.used else ()
        return Draft(manifest, tensors, f"Genres by {what[config.modalities]}", calibrated=True, golden=golden)
