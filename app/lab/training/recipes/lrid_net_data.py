"""Makes a catalogue ready for `lrid_net`: rows by split, decoded audio, and text vectors."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from app.audio.windows import fit_window
from app.domain import FloatArray
from app.families.lrid_net.config import ListenConfig
from app.families.lrid_net.read import LangdetectReader
from app.families.parts.profiles import langdetect_languages
from app.lab.caches import Decoder, Waveforms, text_vectors
from app.lab.corpus.catalogue import Row, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.errors import CorpusError
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig

LANGDETECT_SEED = 0


class DataConfig(TrainConfig):
    """Holds the settings that `prepare` needs."""

    crop_seconds: float = Field(30.0, ge=0)  # of training audio, anywhere; 0 = whole windows, as validation listens
    listen: ListenConfig = Field(default_factory=ListenConfig)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows with audio come first, then rows of which only the metadata is used."""

    rows: list[Row]  # n
    n_audio: int
    x_lang: FloatArray  # (n, 56)
    labels: npt.NDArray[np.int64]  # (n,)

    @property
    def n_trained(self) -> int:
        """Counts the rows that are learnt from: those with audio, or all where none has any."""
        return self.n_audio or len(self.rows)


@dataclass(frozen=True, slots=True)
class Data:
    train: Split
    valid: Split
    waveforms: Waveforms

    def crops(self, rows: Sequence[Row], config: DataConfig, rng: np.random.Generator) -> FloatArray:
        """Cuts (n, crop_samples): random stretches, repeated if too short; whole windows where crop_seconds is 0."""
        listen = config.listen
        wanted = round((config.crop_seconds or listen.window_seconds) * listen.sample_rate_hz)
        crops = np.empty((len(rows), wanted), np.float32)
        for i, row in enumerate(rows):
            length = self.waveforms.length(row)
            if config.crop_seconds:
                start = int(rng.integers(0, max(0, length - wanted) + 1))
            else:  # one of the clip's windows; the last may be short and is then repeated
                start = int(rng.integers(0, -(-length // wanted))) * wanted
            crops[i] = fit_window(self.waveforms.read(row, start, wanted), wanted)
        return crops

    def window(self, row: Row, listen: ListenConfig) -> FloatArray:
        """Cuts (window_samples,): the first window of a row's clip, exactly as it is served."""
        return fit_window(self.waveforms.read(row, 0, listen.window_samples), listen.window_samples)

    def fingerprint(self) -> str:
        """Hashes what is learnt from and validated on; files may move or be touched."""
        digest = hashlib.sha256()
        for split in (self.train, self.valid):
            digest.update(split.labels.tobytes() + split.x_lang.tobytes())
            digest.update(self.waveforms.fingerprint(split.rows[: split.n_audio]).encode())
        return digest.hexdigest()[:16]


def prepare(config: DataConfig, *, audio: bool, text: bool, progress: Progress) -> Data:
    """Read the catalogue, decode what is new, read the metadata; of the modalities that are used. Raises CorpusError."""
    rows = read_catalogue(config.catalogue, config.codes)
    for finding in refuse_leaks(rows, config.codes):
        progress.say(f"{config.catalogue.name}, {finding}")
    waveforms = Waveforms(config.cache_folder / f"audio-{config.listen.sample_rate_hz}")
    heard = [row for row in rows if row.path is not None and audio and row.split != "test"]
    waveforms.add(progress.each("decoding", heard), Decoder(config.listen.window))
    unheard = [row for row in rows if row.metadata.fields and text and not (row.path is not None and audio)]
    train, valid = (_split(name, heard, unheard, config, progress) for name in ("train", "valid"))
    if train.n_trained < config.batch_size:
        raise CorpusError(f"fewer usable training rows than one batch of {config.batch_size}; lower batch_size or add rows")
    if not valid.rows:
        raise CorpusError("no row has split=valid; early stopping needs some (the paper splits 80:20 by artist)")
    return Data(train, valid, waveforms)


def _split(name: str, heard: list[Row], unheard: list[Row], config: DataConfig, progress: Progress) -> Split:
    own = [row for row in heard if row.split == name]
    rows = [*own, *(row for row in unheard if row.split == name)]
    languages = langdetect_languages()
    reader = LangdetectReader(languages, seed=LANGDETECT_SEED)
    identity = f"langdetect {','.join(languages)} seed {LANGDETECT_SEED}"
    x_lang = text_vectors(config.cache_folder, [row.metadata for row in rows], reader, identity, progress)
    return Split(rows, len(own), x_lang, np.array([row.label for row in rows], np.int64))
