"""Songs are listened to: the audio codebook is learnt from them, and every window gives its segments and its histogram."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn

from app.audio.decode import load_recording
from app.audio.spec import WindowRequest, WindowSpec
from app.domain import FloatArray
from app.families.contract import AudioBranch, Target
from app.families.multimodal.listen import SegmentListener
from app.families.multimodal.manifest import SegmentConfig, TimbralConfig
from app.families.multimodal.timbral import MelFrames, TimbralHistogram, with_derivatives
from app.families.parts.whisper import Ears
from app.lab.caches import LIMITS, made, stamp
from app.lab.corpus.catalogue import Row
from app.lab.errors import CorpusError, LabError
from app.lab.features import FeatureExtractor, cache_folder, served_windows
from app.lab.progress import Progress

FRAMES_PER_SONG = 100  # that the codebook is learnt from
EM_STEPS = 50


@dataclass(frozen=True, slots=True)
class Listening:
    """How songs are listened to."""

    ears: Ears
    timbral: TimbralHistogram | None
    segments: SegmentConfig
    most_windows: int

    @property
    def window(self) -> WindowSpec:
        return WindowSpec(self.ears.config.sample_rate_hz, self.ears.config.window_samples, padding="silence")

    def features(self, rows: Sequence[Row], target: Target, cache: Path, progress: Progress) -> list[FloatArray]:
        """(n_windows, n_features) of each row. Raises CorpusError naming the row that cannot be decoded."""
        n_codewords = 0 if self.timbral is None else self.timbral.weights.shape[0]
        listener = SegmentListener(self.ears, self.timbral, self.segments, n_codewords)
        branch = AudioBranch(self.window, listener, None, self.most_windows)
        told = f"{_digest(self.ears)} {_digest(self.timbral)} {self.segments}"
        folder = cache_folder(cache, served_windows(branch), told)
        return FeatureExtractor(branch, target, cache=folder).rows(rows, progress)


def kept_codebook(
    rows: Sequence[Row], window: WindowSpec, wanted: TimbralConfig, variance: float, cache: Path, progress: Progress
) -> TimbralHistogram:
    """The codebook of these files as they are now, learnt once: another machine's last digits may be others.

    Raises CorpusError naming the row that cannot be decoded.
    """
    told = f"{window} {wanted} {variance} {FRAMES_PER_SONG} {EM_STEPS} {[stamp(row) for row in rows]}"
    place = cache / f"codebook-{hashlib.sha256(told.encode()).hexdigest()[:12]}.safetensors"
    if not place.is_file():
        learnt = learn_codebook(rows, window, wanted, variance, progress)
        part = place.with_suffix(".part")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            part.write_bytes(save(learnt.state_dict()))
            part.replace(place)
        except OSError as error:
            raise CorpusError(f"{place} cannot be written ({error}); free some disk and run the same again") from error
    tensors = load(place.read_bytes())
    histogram = TimbralHistogram(wanted.model_copy(update={"n_components": len(tensors["components"])}))
    histogram.load_state_dict(tensors)
    return histogram


def learn_codebook(
    rows: Sequence[Row], spec: WindowSpec, wanted: TimbralConfig, variance: float, progress: Progress
) -> TimbralHistogram:
    """PCA that keeps this share of the variance, then a mixture by expectation-maximization on what the songs sound like.

    Of `wanted` the number of components is found here. Raises CorpusError naming the row that cannot be decoded.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise LabError("A codebook needs scikit-learn: python -m pip install -e '.[train]'") from error
    frames = MelFrames(wanted.n_mels, wanted.frame_samples)
    with progress.counting("spectra of songs", len(rows)) as advance:
        spectra = []
        for row in rows:
            spectra += _spectra(row, spec, frames)
            advance(1)
    pca = PCA(variance, svd_solver="full").fit(np.concatenate(spectra))
    features = [with_derivatives(torch.from_numpy(pca.transform(one))[None])[0].numpy() for one in spectra]
    mixture = GaussianMixture(wanted.n_codewords, covariance_type="diag", max_iter=EM_STEPS, tol=1e-2, random_state=0)
    chosen = np.concatenate(features)
    if len(chosen) < wanted.n_codewords:
        raise CorpusError(
            f"{len(chosen)} frames of sound; {wanted.n_codewords} codewords need more: add songs, or set fewer"
        )
    mixture.fit(chosen)
    config = wanted.model_copy(update={"n_components": len(pca.components_)})
    histogram = TimbralHistogram(config)
    learnt = (pca.mean_, pca.components_, mixture.weights_, mixture.means_, mixture.covariances_)
    for name, values in zip(("mean", "components", "weights", "means", "variances"), learnt, strict=True):
        getattr(histogram, name).copy_(torch.from_numpy(np.asarray(values)))
    return histogram


def _spectra(row: Row, spec: WindowSpec, frames: MelFrames) -> list[FloatArray]:
    """(FRAMES_PER_SONG at most, n_mels) of the middle of a song, what sounds of it; none if it is silent."""

    def middle(path: Path) -> FloatArray:
        windows = load_recording(path, WindowRequest(spec, 1), LIMITS).windows
        if not windows:
            return np.zeros((0, frames.mel.shape[1]), np.float32)
        found, sounds = frames(torch.from_numpy(windows[0].samples)[None])
        return found[0][sounds[0]][:FRAMES_PER_SONG].numpy()  # type: ignore[no-any-return]

    own = made(row, middle)
    return [own] if len(own) else []


def _digest(module: nn.Module | None) -> str:
    """Of a module's tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()) if module is not None else ():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()
