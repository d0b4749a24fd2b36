"""A catalogue made ready for `lrid_net`: rows by split, decoded audio, text vectors, and how text rows are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from app.audio.windows import fit_window
from app.domain import FloatArray
from app.families.lrid_net.config import ListenConfig
from app.families.lrid_net.read import LangdetectReader
from app.families.parts.profiles import langdetect_languages
from app.lab.caches import Decoder, TextVectors, Waveforms
from app.lab.corpus.catalogue import Row, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.errors import CorpusError
from app.lab.progress import Progress
from app.lab.training import augment
from app.lab.training.config import TrainConfig
from app.lab.training.sampling import class_mix, count, row_probabilities

Integers = npt.NDArray[np.int64]


class DataConfig(TrainConfig):
    """What `prepare` needs to know."""

    text_catalogue: Path | None = None  # more rows; of these only the metadata is used
    text_rows_per_batch: int = Field(0, ge=0)  # rows with metadata only, added to each batch; their audio is missing
    text_class_power: float = Field(0.5, ge=0)  # text rows of a class are drawn in proportion to count ** this
    crop_seconds: float = Field(30.0, ge=0)  # of training audio, anywhere; 0 = whole windows, as validation listens
    listen: ListenConfig = Field(default_factory=ListenConfig)
    text_seed: int = 0  # of langdetect


@dataclass(frozen=True, slots=True)
class Split:
    """Rows with audio, and rows of which only the metadata is used."""

    rows: list[Row]  # n, with audio
    x_lang: FloatArray  # (n, 56)
    labels: Integers  # (n,)
    text_x_lang: FloatArray  # (m, 56)
    text_labels: Integers  # (m,)

    @property
    def n_audio(self) -> int:
        return len(self.labels)

    @property
    def n_text(self) -> int:
        return len(self.text_labels)


@dataclass(frozen=True, slots=True)
class Data:
    train: Split
    valid: Split
    waveforms: Waveforms
    text_probabilities: npt.NDArray[np.float64]  # (m,) of drawing each of train's text rows
    class_prior: npt.NDArray[np.float64]  # (n_classes,) of all rows that training sees

    def crops(self, rows: Sequence[Row], config: DataConfig, speed: float, rng: np.random.Generator) -> FloatArray:
        """(n, crop_samples): a random stretch of each clip, or a whole window where crop_seconds is 0.

        A clip shorter than the crop is repeated, as served. `speed`: largest relative change of speed and pitch.
        """
        listen = config.listen
        wanted = round((config.crop_seconds or listen.window_seconds) * listen.sample_rate_hz)
        crops = np.empty((len(rows), wanted), np.float32)
        for i, row in enumerate(rows):
            length = round(wanted * (1 + rng.uniform(-speed, speed))) if speed else wanted
            free = max(0, self.waveforms.length(row) - length)
            start = int(rng.integers(0, free + 1)) if config.crop_seconds else _window_start(free + length, wanted, rng)
            crops[i] = augment.resample_to(fit_window(self.waveforms.read(row, start, length), length), wanted)
        return crops

    def window(self, row: Row, listen: ListenConfig) -> FloatArray:
        """(window_samples,): the first window of a row's clip, exactly as it is served."""
        return fit_window(self.waveforms.read(row, 0, listen.window_samples), listen.window_samples)

    def fingerprint(self) -> str:
        """Of what is learnt from and validated on; files may move or be touched."""
        digest = hashlib.sha256()
        for split in (self.train, self.valid):
            for array in (split.labels, split.x_lang, split.text_labels, split.text_x_lang):
                digest.update(array.tobytes())
            digest.update(self.waveforms.fingerprint(split.rows).encode())
        return digest.hexdigest()[:16]


def _window_start(clip_samples: int, window_samples: int, rng: np.random.Generator) -> int:
    """Where one of the clip's windows begins; the last may be short and is then repeated."""
    return int(rng.integers(0, -(-clip_samples // window_samples))) * window_samples


def prepare(config: DataConfig, *, audio: bool, text: bool, progress: Progress) -> Data:
    """Read the catalogues, decode what is new, read the metadata; of the modalities that are used. Raises CorpusError."""
    rows = read_catalogue(config.catalogue, config.codes)
    more = read_catalogue(config.text_catalogue, config.codes) if config.text_catalogue else []
    for finding in refuse_leaks([*rows, *more], config.codes):
        progress.say(f"{config.catalogue.name}, {finding}")
    waveforms = Waveforms(config.cache_folder / f"audio-{config.listen.sample_rate_hz}")
    heard = [row for row in rows if row.path is not None and audio and row.split != "test"]
    with progress.counting("decoding", len(heard)) as advance:
        waveforms.add(heard, Decoder(config.listen.window), advance)
    languages = langdetect_languages()
    fingerprint = f"langdetect {','.join(languages)} seed {config.text_seed}"
    reader = TextVectors(config.cache_folder / "x_lang", LangdetectReader(languages, seed=config.text_seed), fingerprint)
    splits, text_rows = {}, {}
    for name in ("train", "valid"):
        own = [row for row in heard if row.split == name]
        unheard = [row for row in rows if row.split == name and not (row.path is not None and audio)]
        chosen = [row for row in [*unheard, *(row for row in more if row.split == name)] if row.metadata.fields] * text
        splits[name], text_rows[name] = _split(own, chosen, reader, progress), chosen
    train, valid = splits["train"], splits["valid"]
    if train.n_audio + train.n_text < config.batch_size:
        raise CorpusError(f"fewer usable training rows than one batch of {config.batch_size}; lower batch_size or add rows")
    if not valid.n_audio + valid.n_text:
        raise CorpusError("no row has split=valid; early stopping needs some (the paper splits 80:20 by artist)")
    return Data(train, valid, waveforms, *_priors(config, train, text_rows["train"]))


def _split(audio: list[Row], text: list[Row], reader: TextVectors, progress: Progress) -> Split:
    with progress.counting("reading metadata", len(audio) + len(text)) as advance:
        vectors = reader((row.metadata for row in [*audio, *text]), advance)  # (n + m, 56)
    labels = np.array([row.label for row in [*audio, *text]], np.int64)
    n = len(audio)
    return Split(audio, vectors[:n], labels[:n], vectors[n:], labels[n:])


def _priors(config: DataConfig, train: Split, texts: list[Row]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How text rows are drawn, and the class mix of a training batch."""
    n_classes = len(config.labels)
    audio_mix = class_mix(np.bincount(train.labels, minlength=n_classes), 1.0) if train.n_audio else np.zeros(n_classes)
    if not texts:
        return np.zeros(0), audio_mix
    mix = class_mix(count(texts, n_classes), config.text_class_power)
    drawn = row_probabilities(texts, mix)
    share = config.text_rows_per_batch / (config.text_rows_per_batch + config.batch_size) if train.n_audio else 1.0
    return drawn, share * mix + (1 - share) * audio_mix
