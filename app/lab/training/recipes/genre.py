"""Learns genres from audio and lyrics (the proposal of Wong & Chemelli): one label, cross-entropy. Read `loss` first.

An example is a song. It is heard for one window from anywhere in it, and its lyrics are read whole. Modality dropout is
ours (Choi & Wang 2021, §3.4), so that the network answers when one of the two is missing.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from app.audio.spec import WindowRequest
from app.domain import AUDIO, LYRICS
from app.families.contract import Label, TextField
from app.families.genre.manifest import GenreManifest, Sizes
from app.families.genre.network import GenreNetwork
from app.families.genre.words import WordReader, Words, vocabulary_of
from app.families.golden import Tone
from app.families.parts.log_mel import LogMel16kHz
from app.lab.corpus.catalogue import Row, classes_of
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import further_of
from app.lab.evaluation.metrics import average
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, IntArray
from app.lab.training.recipes.songs import (
    Clips,
    SongRecipe,
    class_mix,
    has_audio,
    in_parts,
    songs_to_learn,
    stored_tensors,
)

GENRE = "genre"  # the column
SONGS_AT_ONCE = 64


class GenreConfig(TrainConfig, Sizes):
    """Sets sizes that train in minutes on a CPU; the proposal names none."""

    labels: tuple[Label, ...] = ()  # genres; (): all in the catalogue
    dropout_rate: float = Field(0.2, ge=0, lt=1)  # of whole items of each modality
    vocabulary_size: int = Field(4000, ge=1)  # principal words: at most so many,
    least_songs: int = Field(2, ge=1)  # each in so many songs at least,
    most_share: float = Field(0.5, gt=0, le=1)  # and in so large a share of the songs at most


@dataclass(frozen=True)
class Songs(Clips):
    """Holds the rows of a split; either modality may be missing."""

    words: list[Words]

    def word_numbers(self, numbers: IntArray) -> Tensor:
        """Returns (n, t), followed by zeros."""
        return pad_sequence([torch.from_numpy(self.words[i]) for i in numbers.tolist()], batch_first=True)


class GenreRecipe(SongRecipe[GenreConfig]):
    """Trains a convolutional network and an LSTM, concatenated."""

    name: ClassVar[str] = "genre"
    family: ClassVar[str] = "genre"
    config_type: ClassVar[type[TrainConfig]] = GenreConfig
    songs: Songs
    valid: Songs

    def prepare(self, progress: Progress) -> None:
        config = self.config
        self.codes = config.codes or classes_of(config.catalogue, GENRE)
        train, valid = songs_to_learn(config.catalogue, self.codes, GENRE, self._has_any, " or ".join(sorted(config.used)))
        if absent := set(self.codes) - {self.codes[row.label] for row in train}:
            what = f"genre {min(absent)!r} has no song in split train; add some, or leave it out"
            raise CorpusError(f"{config.catalogue}: {what}")
        texts = [text for row in train if (text := self._lyrics(row))]
        self.vocabulary = vocabulary_of(texts, config.read, config.vocabulary_size, config.least_songs, config.most_share)
        if AUDIO in config.used and not any(map(has_audio, train)):
            raise CorpusError(f"{config.catalogue}: no song of split train has audio; add some, or set modalities=lyrics")
        if LYRICS in config.used and not self.vocabulary:
            what = f"the lyrics of split train hold no word of {config.least_songs} songs"
            raise CorpusError(f"{config.catalogue}: {what}; add some, lower least_songs, or set modalities=audio")
        self.songs, self.valid = self._songs(train, progress), self._songs(valid, progress)
        self.n_examples = len(train)
        self._log_mel = LogMel16kHz(config.see.mel_bands).to(config.torch_device)

    def _has_any(self, row: Row) -> bool:
        return bool(self._lyrics(row)) or (AUDIO in self.config.used and has_audio(row))

    def _lyrics(self, row: Row) -> str:
        """Returns "" where lyrics are not used. Raises CorpusError for more than a request may give."""
        fields = {LYRICS: TextField(self.config.read.max_characters)} if LYRICS in self.config.used else {}
        return str(further_of(row, fields).get(LYRICS, "")).strip()

    def _songs(self, rows: list[Row], progress: Progress) -> Songs:
        see, read = self.config.see, WordReader(self.config.read, self.vocabulary)
        words = [read(self._lyrics(row)) for row in rows]
        if AUDIO not in self.config.used:
            rows = [replace(row, path=None) for row in rows]
        request = WindowRequest(see.window, see.served_windows)
        return Songs.decoded(rows, request, see.window, self.config.cache_folder, progress, words=words)

    def build(self) -> GenreNetwork:
        return GenreNetwork(self.config, len(self.vocabulary), len(self.codes), self.config.dropout_rate)

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns the cross-entropy."""
        return cross_entropy(self._logits(network, self.songs, batch, rng), self.tensor(self.songs.labels[batch]))

    def _logits(
        self, network: nn.Module, songs: Songs, numbers: IntArray, rng: np.random.Generator | None = None, lacking: str = ""
    ) -> Tensor:
        """Returns (n, n_classes); `lacking`: a modality that is taken away."""
        log_mel, words = None, None
        if AUDIO in self.config.used:
            log_mel = self._log_mel(self.tensor(songs.crops(numbers, rng)))
            given = [has_audio(songs.rows[i]) and lacking != AUDIO for i in numbers.tolist()]
            log_mel = log_mel * self.tensor(np.array(given))[:, None, None]
        if LYRICS in self.config.used:
            words = songs.word_numbers(numbers).to(self.config.torch_device) * (lacking != LYRICS)
        return network(log_mel, words)  # type: ignore[no-any-return]

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures loss, accuracy and macro F1 with all that is given, and accuracy where either is taken away."""
        labels = self.valid.labels
        cases = {"": ""}
        if len(self.config.used) == 2:
            cases |= {"_without_audio": AUDIO, "_without_lyrics": LYRICS}
        scores: dict[str, float] = {}
        for case, lacking in cases.items():
            logits = in_parts(len(labels), SONGS_AT_ONCE, partial(self._logits, network, self.valid, lacking=lacking))
            best = logits.argmax(dim=1).cpu().numpy()
            if not case:
                scores["loss"] = cross_entropy(logits, self.tensor(labels)).item()
                scores["macro_f1"] = average(labels, best, "macro").f1
            scores[f"accuracy{case}"] = float((best == labels).mean())
        return scores

    def facts(self) -> dict[str, Any]:
        """Returns genres, vocabulary, counts and the class mix."""
        audio, lyrics = sum(map(has_audio, self.songs.rows)), sum(len(words) > 0 for words in self.songs.words)
        return {
            "codes": self.codes,
            "vocabulary": self.vocabulary,
            "rows": {"audio": audio, "lyrics": lyrics},
            "class_prior": class_mix(self.songs.labels, self.codes),
        }

    def export(self, stored: dict[str, Any]) -> Draft:
        """Stores all weights in fp32."""
        facts, config = dict(stored["facts"]), self.config
        codes, vocabulary = facts.pop("codes"), facts.pop("vocabulary")
        labels = list(config.labels) or [Label(code=code, iso639_3=None, name=code.capitalize()) for code in codes]
        sizes = {name: getattr(config, name) for name in Sizes.model_fields}
        manifest = GenreManifest(**self.unnamed(labels, facts), **sizes, vocabulary=vocabulary)
        what = {"both": "spectrograms and lyrics, concatenated", "audio": "spectrograms alone", "lyrics": "lyrics alone"}
        known = {"further": {LYRICS: " ".join(vocabulary[: config.read.most_words])}}
        golden = (known, {"audio": Tone(pitch_hz=220)} | known) if LYRICS in config.used else ()
        about = f"Genres by {what[config.modalities]}"
        return Draft(manifest, stored_tensors(stored), about, calibrated=True, golden=golden)
