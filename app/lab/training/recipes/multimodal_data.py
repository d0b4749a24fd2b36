"""What the multimodal network learns from: segments of songs with all that is known of the song, and the audio codebook."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch import Tensor

from app.audio.decode import load_recording
from app.audio.spec import WindowRequest, WindowSpec
from app.domain import FloatArray
from app.families.contract import VectorField
from app.families.multimodal.listen import taken_apart
from app.families.multimodal.manifest import SegmentConfig, TimbralConfig
from app.families.multimodal.model import CONSUMPTION
from app.families.multimodal.timbral import MelFrames, TimbralHistogram, with_derivatives
from app.lab.caches import LIMITS, made, stamp
from app.lab.corpus.catalogue import Row
from app.lab.corpus.made.sessions import session_embeddings
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import further_of
from app.lab.labels import WORLD_ALIASES
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.voice_head.data import NOTHING, group_folds, read_heard

HEARD_SECONDS = 10.0  # of a window of cached features
FRAMES_PER_SONG = 100  # that the codebook is learnt from
EM_STEPS = 50
CODEBOOK = "codebook"
WHOLE, NO_CONSUMPTION, NO_AUDIO = range(3)  # an example, and replicas that lack something


@dataclass(frozen=True, slots=True)
class Songs:
    """n songs and their segments."""

    parts: Mapping[str, FloatArray]  # by modality (n_segments, size): fanned out; NaN where it is missing
    seconds: FloatArray  # (n_segments,)
    owner: npt.NDArray[np.int64]  # (n_segments,) the song
    labels: npt.NDArray[np.int64]  # (n,)
    splits: npt.NDArray[np.str_]  # (n,)

    def segments(self, split: str) -> npt.NDArray[np.int64]:
        """Numbers of the segments of a split's songs."""
        return np.flatnonzero(self.splits[self.owner] == split)


def songs_of(rows: Sequence[Row], heard: Sequence[FloatArray], n_state: int, config: SegmentConfig) -> Songs:
    """`heard`: what the listener made of each row's windows. A song without voice has one segment without embedding."""
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
    """(n, c) of the column `consumption`, a JSON array or nothing; NaN where there is none. Raises CorpusError."""
    first = next((cell for row in rows if (cell := row.cells.get(CONSUMPTION))), "")
    field = VectorField(first.count(",") + 1 if first else 0)
    nothing = np.full(field.length, np.nan, np.float32)
    given = [further_of(row, {CONSUMPTION: field}).get(CONSUMPTION, nothing) for row in rows]
    return np.array(given, np.float32)


def heard_songs(folder: Path, codes: Sequence[str], most_windows: int, seed: int, *, with_sessions: bool) -> Songs:
    """Cached features of real songs: windows are segments, groups are split 5 : 1 : 1, sessions are made if wanted."""
    heard = read_heard(folder, codes, WORLD_ALIASES)
    heard = heard.subset(np.flatnonzero(heard.labels != NOTHING))
    spread = [np.unique(np.linspace(0, count - 1, most_windows).round()) for count in heard.counts]
    chosen = np.concatenate([first + own for first, own in zip(heard.first, spread, strict=True)]).astype(np.int64)
    owner = heard.owner[chosen]
    parts = {"vocals": heard.hidden[chosen]}
    if with_sessions:
        parts[CONSUMPTION] = session_embeddings([codes[label] for label in heard.labels], seed)[owner]
    splits = np.array(["valid", "test", *["train"] * 5])[group_folds(heard, 7, seed)]
    return Songs(parts, np.full(len(chosen), HEARD_SECONDS, np.float32), owner, heard.labels, splits)


def kept_codebook(
    rows: Sequence[Row], window: WindowSpec, wanted: TimbralConfig, variance: float, cache: Path, progress: Progress
) -> TimbralHistogram:
    """The codebook of these files as they are now, learnt once: another machine's last digits may be others.

    `variance`: the share that the principal components keep, which decides how many there are. Raises CorpusError naming
    the row that cannot be decoded, CheckpointError.
    """
    told = f"{window} {wanted} {variance} {FRAMES_PER_SONG} {EM_STEPS} {[stamp(row) for row in rows]}"
    place = cache / f"codebook-{hashlib.sha256(told.encode()).hexdigest()[:12]}.pt"
    if not place.is_file():
        middle = partial(_middle, window=window, frames=MelFrames(wanted.n_mels, wanted.frame_samples))
        spectra = []
        with progress.counting("spectra of songs", len(rows)) as advance:
            for row in rows:
                spectra.append(made(row, middle))
                advance(1)
        learnt = learn_codebook([one for one in spectra if len(one)], wanted.n_codewords, variance)
        checkpoint.save(place, {"recipe": CODEBOOK, "config": told, "network": learnt})
    tensors = checkpoint.load(place, CODEBOOK)["network"]
    histogram = TimbralHistogram(wanted.model_copy(update={"n_components": len(tensors["components"])}))
    histogram.load_state_dict(tensors)
    return histogram


def _middle(path: Path, window: WindowSpec, frames: MelFrames) -> FloatArray:
    """(FRAMES_PER_SONG at most, n_mels) of the window in the middle of a song, what sounds of it."""
    windows = load_recording(path, WindowRequest(window, 1), LIMITS).windows
    if not windows:
        return np.zeros((0, frames.mel.shape[1]), np.float32)
    found, sounds = frames(torch.from_numpy(windows[0].samples)[None])
    return found[0][sounds[0]][:FRAMES_PER_SONG].numpy()  # type: ignore[no-any-return]


def learn_codebook(spectra: Sequence[FloatArray], n_codewords: int, variance: float) -> dict[str, Tensor]:
    """(t, n_mels) of each song → the tensors of a `TimbralHistogram`: principal components, and a mixture by
    expectation-maximization on them and their derivatives. Raises CorpusError for too few frames."""
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
