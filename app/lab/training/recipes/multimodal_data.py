"""Prepares what the multimodal network learns from: segments of songs, what is known of the songs, the audio codebook."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch import Tensor

from app.audio.decode import load_recording
from app.audio.spec import WindowRequest, WindowSpec
from app.domain import FloatArray
from app.families.contract import AudioBranch, Label, Target, VectorField
from app.families.multimodal.listen import SegmentListener, taken_apart
from app.families.multimodal.manifest import ResNetConfig, SegmentConfig, TimbralConfig
from app.families.multimodal.model import CONSUMPTION
from app.families.multimodal.timbral import MelFrames, TimbralHistogram, with_derivatives
from app.families.parts.whisper import Ears
from app.lab.caches import LIMITS, made, stamp
from app.lab.corpus.catalogue import Row, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.corpus.made.sessions import session_embeddings
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import REST, further_of
from app.lab.features import FeatureExtractor
from app.lab.labels import WORLD_LABELS
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.config import TrainConfig
from app.lab.training.voice_head.data import NOTHING, group_folds, read_heard
from app.lab.training.voice_parts import identity_of, parts_of_release
from app.settings import Settings

HEARD_SECONDS = 10.0  # of a window of cached features
FRAMES_PER_SONG = 100  # that the codebook is learnt from
EM_STEPS = 50
CODEBOOK = "codebook"
WHOLE, NO_CONSUMPTION, NO_AUDIO = range(3)  # an example, and replicas that lack something
CODES = ("de", "en", "es", "fr", "hi", "it", "ja", "pa", "ta", "te", REST)  # the paper's, §4.1
Modality = Literal["vocals", "timbral", "consumption"]


class MultimodalConfig(TrainConfig):
    """Defaults are the paper's where it prints one. Ears are those of a release (`start`)."""

    labels: tuple[Label, ...] = tuple(label for code in CODES for label in WORLD_LABELS if label.code == code)
    start: str = "lrid_voice"  # without a number, the newest
    store: Path = Field(default_factory=lambda: Settings().model_store)  # where `start` is
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

    def codebook(self, n_components: int) -> TimbralConfig:
        return TimbralConfig(n_mels=self.n_mels, n_components=n_components, n_codewords=self.n_codewords)

    @property
    def ears(self) -> Ears:
        """Raises ReleaseError, TrainingError."""
        return parts_of_release(self.store, self.start).ears


@dataclass(frozen=True, slots=True)
class Songs:
    """Holds n songs and their segments."""

    parts: Mapping[str, FloatArray]  # by modality (n_segments, size): fanned out; NaN where it is missing
    seconds: FloatArray  # (n_segments,)
    owner: npt.NDArray[np.int64]  # (n_segments,) the song
    labels: npt.NDArray[np.int64]  # (n,)
    splits: npt.NDArray[np.str_]  # (n,)

    def segments(self, split: str) -> npt.NDArray[np.int64]:
        """Returns the numbers of the segments of a split's songs."""
        return np.flatnonzero(self.splits[self.owner] == split)


def listened(config: MultimodalConfig, progress: Progress) -> tuple[Songs, TimbralHistogram | None]:
    """Returns features of all songs, and the codebook that they are made with. Raises CorpusError naming the row."""
    if config.features is not None:
        return _cached(config, config.features), None
    rows = read_catalogue(config.catalogue, config.codes, rest=REST if REST in config.codes else None)
    rows = [row for row in rows if row.path is not None]
    if not rows:
        raise CorpusError(f"{config.catalogue}: no row has audio")
    refuse_leaks(rows, config.codes)
    ears, timbral = config.ears, None
    window = ears.config.window
    if "timbral" in config.inputs:
        timbral = kept_codebook([row for row in rows if row.split == "train"], window, config, progress)
    branch = AudioBranch(window, SegmentListener(ears, timbral, config.segments), None, config.most_windows)
    target = Target("cuda", "bf16") if config.torch_device.type == "cuda" else None
    told = f"{identity_of(ears)} {identity_of(timbral) if timbral else ''} {config.segments}"
    heard = FeatureExtractor(branch, target, cache=config.cache_folder, identity=told).rows(rows, progress)
    return songs_of(rows, heard, ears.config.n_state, config.segments), timbral


def songs_of(rows: Sequence[Row], heard: Sequence[FloatArray], n_state: int, config: SegmentConfig) -> Songs:
    """Collects songs of what the listener made of each row. A song without voice has one segment without embedding."""
    kept = [(row, taken_apart(own, n_state, config)) for row, own in zip(rows, heard, strict=True) if len(own)]
    if not kept:
        raise CorpusError("all recordings of the catalogue are silent")
    nothing, one = np.full((1, n_state), np.nan, np.float32), np.ones(1, np.float32)
    vocals = [song.embeddings if len(song.seconds) else nothing for _, song in kept]
    owner = np.repeat(np.arange(len(kept)), [len(own) for own in vocals])
    parts = {
        "vocals": np.concatenate(vocals),
        "timbral": np.stack([song.timbral for _, song in kept])[owner],
        CONSUMPTION: consumption_of([row for row, _ in kept])[owner],
    }
    seconds = np.concatenate([song.seconds if len(song.seconds) else one for _, song in kept])
    return Songs(parts, seconds, owner, np.array([row.label for row, _ in kept]), np.array([row.split for row, _ in kept]))


def consumption_of(rows: Sequence[Row]) -> FloatArray:
    """Returns (n, c) of the column `consumption`, a JSON array or nothing; NaN where there is none. Raises CorpusError."""
    first = next((cell for row in rows if (cell := row.cells.get(CONSUMPTION))), "")
    field = VectorField(first.count(",") + 1 if first else 0)
    nothing = np.full(field.length, np.nan, np.float32)
    given = [further_of(row, {CONSUMPTION: field}).get(CONSUMPTION, nothing) for row in rows]
    return np.array(given, np.float32)


def _cached(config: MultimodalConfig, folder: Path) -> Songs:
    """Reads features of real songs: windows are segments, groups are split 5 : 1 : 1, sessions are made if wanted."""
    heard = read_heard(folder, config.codes)
    heard = heard.subset(np.flatnonzero(heard.labels != NOTHING))
    spread = [np.unique(np.linspace(0, count - 1, config.most_windows).round()) for count in heard.counts]
    chosen = np.concatenate([first + own for first, own in zip(heard.first, spread, strict=True)]).astype(np.int64)
    owner = heard.owner[chosen]
    parts = {"vocals": heard.hidden[chosen]}
    if config.made_sessions:
        parts[CONSUMPTION] = session_embeddings([config.codes[label] for label in heard.labels], config.seed)[owner]
    splits = np.array(["valid", "test", *["train"] * 5])[group_folds(heard, 7, config.seed)]
    return Songs(parts, np.full(len(chosen), HEARD_SECONDS, np.float32), owner, heard.labels, splits)


def kept_codebook(rows: Sequence[Row], window: WindowSpec, config: MultimodalConfig, progress: Progress) -> TimbralHistogram:
    """Reads the codebook of these files as they are now, or learns it: another machine's last digits may differ.

    Raises CorpusError naming the row that cannot be decoded, CheckpointError.
    """
    wanted, stamps = config.codebook(1), [stamp(row) for row in rows]
    told = f"{window} {wanted} {config.variance} {FRAMES_PER_SONG} {EM_STEPS} {stamps}"
    place = config.cache_folder / f"codebook-{hashlib.sha256(told.encode()).hexdigest()[:12]}.pt"
    if not place.is_file():
        middle = partial(_middle, window=window, frames=MelFrames(wanted.n_mels, wanted.frame_samples))
        spectra = [made(row, middle) for row in progress.each("spectra of songs", rows)]
        learnt = learn_codebook([one for one in spectra if len(one)], config.n_codewords, config.variance)
        checkpoint.save(place, {"recipe": CODEBOOK, "config": told, "network": learnt})
    tensors = checkpoint.load(place, CODEBOOK)["network"]
    histogram = TimbralHistogram(config.codebook(len(tensors["components"])))
    histogram.load_state_dict(tensors)
    return histogram


def _middle(path: Path, window: WindowSpec, frames: MelFrames) -> FloatArray:
    """Returns (FRAMES_PER_SONG at most, n_mels), what sounds of the window in the middle of a song."""
    windows = load_recording(path, WindowRequest(window, 1), LIMITS).windows
    if not windows:
        return np.zeros((0, len(frames.mel)), np.float32)
    found, sounds = frames(torch.from_numpy(windows[0].samples)[None])
    return found[0][sounds[0]][:FRAMES_PER_SONG].numpy()  # type: ignore[no-any-return]


def learn_codebook(spectra: Sequence[FloatArray], n_codewords: int, variance: float) -> dict[str, Tensor]:
    """Learns the tensors of a `TimbralHistogram` from (t, n_mels) of each song. Raises CorpusError for too few frames.

    They are principal components, and a mixture by expectation-maximization on them and their derivatives.
    """
    if (count := sum(map(len, spectra))) < n_codewords:
        raise CorpusError(f"{count} frames of sound; {n_codewords} codewords need more: add songs, or set fewer")
    pca = PCA(variance, svd_solver="full").fit(np.concatenate(spectra))
    features = [with_derivatives(torch.from_numpy(pca.transform(one))[None])[0].numpy() for one in spectra]
    mixture = GaussianMixture(n_codewords, covariance_type="diag", max_iter=EM_STEPS, tol=1e-2, random_state=0)
    mixture.fit(np.concatenate(features))
    learnt = {
        "mean": pca.mean_,
        "components": pca.components_,
        "weights": mixture.weights_,
        "means": mixture.means_,
        "variances": mixture.covariances_,
    }
    return {name: torch.from_numpy(np.asarray(values, np.float32)) for name, values in learnt.items()}
