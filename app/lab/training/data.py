"""A manifest made ready to train on: rows by split, decoded audio, text vectors, and how text rows are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.audio.windows import fit_window
from app.domain import FloatArray
from app.families.lrid_net.config import ListenConfig
from app.families.lrid_net.profiles import langdetect_languages
from app.families.lrid_net.read import LangdetectReader
from app.lab.corpus.check import FATAL, check_rows
from app.lab.corpus.manifest import Finding
from app.lab.training import augment
from app.lab.training.caches import Spectrograms, TextVectors, Waveforms
from app.lab.training.config import VARIANTS, TrainConfig
from app.lab.training.corpus import (
    Row,
    class_mix,
    classes_of_domains,
    count,
    read_manifest,
    row_probabilities,
    select,
)
from app.lab.training.errors import CorpusError

LIMITS = DecodeLimits(max_audio_seconds=3600.0, silence_dbfs=-60.0)
MAX_WINDOWS = 8  # of a long recording, as serving spreads them over the track
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows with audio, and rows of which only the metadata is used."""

    rows: list[Row]  # n, with audio
    x_lang: FloatArray  # (n, 56)
    labels: Labels  # (n,)
    text_x_lang: FloatArray  # (m, 56)
    text_labels: Labels  # (m,)
    classes: npt.NDArray[np.bool_]  # (n, n_classes) that each row with audio competes among


@dataclass(frozen=True, slots=True)
class Data:
    train: Split
    valid: Split
    waveforms: Waveforms  # empty when there are spectrograms
    text_probabilities: npt.NDArray[np.float64]  # (m,) of drawing each of train's text rows
    class_prior: npt.NDArray[np.float64]  # (n_classes,) of all rows that training sees
    spectrograms: dict[str, Spectrograms] = field(default_factory=dict)  # by split
    findings: list[Finding] = field(default_factory=list)  # what is odd, but no reason to stop


class Decoder:
    """File → the sounding part of a track, as serving would hear it: one stretch, or windows spread over a long one."""

    def __init__(self, listen: ListenConfig) -> None:
        self._spec = WindowSpec(listen.sample_rate_hz, listen.window_samples)

    def __call__(self, path: Path) -> FloatArray:
        """(n,) mono float32. Raises AudioError, and CorpusError when all of it is silent."""
        windows = load_recording(path, WindowRequest(self._spec, MAX_WINDOWS), LIMITS).windows
        if not windows:
            raise CorpusError("it is silent")
        rate = self._spec.sample_rate_hz
        return np.concatenate([window.samples[: max(1, round(window.seconds * rate))] for window in windows])


def prepare(config: TrainConfig, progress: Progress) -> Data:
    """Reads the manifests, decodes what is new, reads the metadata. Raises CorpusError."""
    kind = VARIANTS[config.variant]
    rows = read_manifest(config.manifest, config.codes)
    texts = read_manifest(config.text_manifest, config.codes) if config.text_manifest else []
    findings = _look_over(config, rows, texts)
    cache = config.cache or config.output / "cache"
    reader = make_text_vectors(cache, config.text_seed)
    waveforms, spectrograms = Waveforms(cache / f"audio-{config.listen.sample_rate_hz}"), {}
    heard = [row for row in rows if row.path is not None and kind.audio]
    task = progress.add_task("decoding", total=len(heard))
    if config.spectrogram_cache:
        for split, least in (("train", config.crop_samples), ("valid", config.listen.window_samples)):
            spectrograms[split] = open_spectrograms(cache, config.listen, least)
            own = [row for row in heard if row.split == split]
            spectrograms[split].add(own, Decoder(config.listen), lambda n: progress.advance(task, n))
    else:
        waveforms.add(heard, Decoder(config.listen), lambda n: progress.advance(task, n))
    by_split = {}
    train_texts: list[Row] = []
    for split in ("train", "valid"):
        audio = select(rows, split, audio=True) if kind.audio else []
        text = select(rows, split, audio=False) if kind.audio else [row for row in rows if row.split == split]
        text = [row for row in [*text, *(t for t in texts if t.split == split)] if row.metadata.fields] * kind.text
        by_split[split] = _split(audio, text, reader, progress, len(config.labels))
        train_texts = text if split == "train" else train_texts
    drawn, prior = _priors(config, by_split, train_texts)
    return _check(config, Data(by_split["train"], by_split["valid"], waveforms, drawn, prior, spectrograms, findings))


def _look_over(config: TrainConfig, rows: list[Row], texts: list[Row]) -> list[Finding]:
    """What is odd about the rows. Raises CorpusError for what would make validation measure what training has seen."""
    together = f"{config.manifest.name} and {config.text_manifest.name} together" if config.text_manifest else ""
    findings = check_rows(rows, config.codes)
    both = check_rows([*rows, *texts], config.codes) if texts else []
    for name, found in ((config.manifest.name, findings), (together, both)):
        for finding in found:
            if finding.kind in FATAL:
                raise CorpusError(f"{name}, {finding}")
    return findings


def open_spectrograms(cache: Path, listen: ListenConfig, least_samples: int) -> Spectrograms:
    """The cache for a front end and a least length; others have theirs beside it."""
    told = f"{listen.model_dump_json(exclude={'window_seconds', 'dynamic_range_db'})} {least_samples}"
    return Spectrograms(cache / f"mel-{hashlib.sha256(told.encode()).hexdigest()[:12]}", listen, least_samples)


def make_text_vectors(cache: Path, seed: int) -> TextVectors:
    """The cached reader of metadata: the family's own, with what it depends on as its fingerprint."""
    languages = langdetect_languages()
    fingerprint = f"langdetect {','.join(languages)} seed {seed}"
    return TextVectors(cache / "x_lang", LangdetectReader(languages, seed=seed), fingerprint)


def _split(audio: list[Row], text: list[Row], reader: TextVectors, progress: Progress, n_classes: int) -> Split:
    task = progress.add_task("reading metadata", total=len(audio) + len(text))
    vectors = reader((row.metadata for row in [*audio, *text]), lambda n: progress.advance(task, n))  # (n + m, 56)
    labels = np.array([row.label for row in [*audio, *text]], np.int64)
    n = len(audio)
    return Split(audio, vectors[:n], labels[:n], vectors[n:], labels[n:], classes_of_domains(audio, n_classes))


def _priors(
    config: TrainConfig, splits: dict[str, Split], texts: list[Row]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How text rows are drawn, and the class mix of a training batch."""
    n = len(config.labels)
    share = config.text_rows_per_batch / (config.text_rows_per_batch + config.batch_size)
    audio_counts = np.bincount(splits["train"].labels, minlength=n)
    if not texts:
        return np.zeros(0), class_mix(audio_counts, 1.0)
    mix = class_mix(count(texts, n), config.text_class_power)
    drawn = row_probabilities(texts, mix, lambda row: config.weak_weight if row.strength.startswith("weak") else 1.0)
    if not len(splits["train"].labels):
        return drawn, mix
    return drawn, share * mix + (1 - share) * class_mix(audio_counts, 1.0)


def _check(config: TrainConfig, data: Data) -> Data:
    train, valid = data.train, data.valid
    if len(train.labels) + len(train.text_labels) < config.batch_size:
        raise CorpusError(f"fewer usable training rows than one batch of {config.batch_size}; lower batch_size or add rows")
    if not len(valid.labels) + len(valid.text_labels):
        raise CorpusError("no row has split=valid; early stopping needs some (the paper splits 80:20 by artist)")
    return data


@dataclass(frozen=True, slots=True)
class Crops:
    """Stretches of clips, as samples or as spectrograms."""

    samples: FloatArray  # (n, crop_samples), or (n, 0) where there are spectrograms
    starts: npt.NDArray[np.int64]  # (n,) where each begins in its clip
    lengths: npt.NDArray[np.int64]  # (n,) samples of the clip that became crop_samples: another speed
    decibels: FloatArray | None = None  # (n, mel_bands, t), not yet clipped to the crop's own range


def crops(data: Data, rows: Sequence[Row], config: TrainConfig, rng: np.random.Generator) -> Crops:
    """One of each row's clip: a random stretch, or with crop_seconds = 0 a whole window at random, as it is served.

    A clip shorter than the crop is repeated, as served. From spectrograms crops begin at whole hops.
    """
    if data.spectrograms:
        return _spectrogram_crops(data.spectrograms["train"], rows, config, rng)
    wanted = config.crop_samples
    batch = np.empty((len(rows), wanted), np.float32)
    places = np.empty((2, len(rows)), np.int64)
    for i, row in enumerate(rows):
        length = augment.samples_for(wanted, rng) if config.augment else wanted
        start = _start(data.waveforms.length(row), length, config, rng)
        samples = fit_window(data.waveforms.read(row, start, length), length)
        batch[i] = augment.resample_to(samples, wanted)
        places[:, i] = start, length
    return Crops(batch, places[0], places[1])


def _start(clip_samples: int, length: int, config: TrainConfig, rng: np.random.Generator) -> int:
    """Anywhere; or where one of the clip's windows begins (the last may be short and is then repeated)."""
    if config.crop_seconds:
        return int(rng.integers(0, max(0, clip_samples - length) + 1))
    return int(rng.integers(0, max(1, -(-clip_samples // config.listen.window_samples)))) * config.listen.window_samples


def _spectrogram_crops(
    spectrograms: Spectrograms, rows: Sequence[Row], config: TrainConfig, rng: np.random.Generator
) -> Crops:
    listen, n_frames = config.listen, config.crop_frames
    starts = np.array([rng.integers(0, max(0, spectrograms.frames(row) - n_frames) + 1) for row in rows], np.int64)
    made = np.stack([spectrograms.read(row, start, n_frames) for row, start in zip(rows, starts.tolist(), strict=True)])
    lengths = np.full(len(rows), config.crop_samples)
    return Crops(np.zeros((len(rows), 0), np.float32), starts * listen.hop_size, lengths, made)


def windows(data: Data, rows: Sequence[Row], listen: ListenConfig) -> Crops:
    """The first window of each validation row's clip, exactly as it is served."""
    nothing = np.zeros(len(rows), np.int64)
    if data.spectrograms:
        made = np.stack([data.spectrograms["valid"].read(row, 0, listen.window_frames) for row in rows])
        return Crops(np.zeros((len(rows), 0), np.float32), nothing, nothing, made)
    return Crops(np.stack([window(data, row, listen) for row in rows]), nothing, nothing)


def window(data: Data, row: Row, listen: ListenConfig) -> FloatArray:
    """(window_samples,) of a row's clip, exactly as it is served."""
    return fit_window(data.waveforms.read(row, 0, listen.window_samples), listen.window_samples)
