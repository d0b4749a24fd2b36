"""The audio codebook: the same as scikit-learn's, and pooled over windows as over a song."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from app.families.multimodal.listen import taken_apart
from app.families.multimodal.manifest import SegmentConfig, TimbralConfig
from app.families.multimodal.timbral import MelFrames, TimbralHistogram, with_derivatives

CONFIG = TimbralConfig(n_mels=20, frame_samples=512, n_components=3, n_codewords=4)


def codebook(mixture: GaussianMixture | None = None) -> TimbralHistogram:
    torch.manual_seed(0)
    made = TimbralHistogram(CONFIG)
    made.mean.uniform_(-3, -1)
    made.components.normal_(std=0.3)
    made.means.normal_()
    made.variances.uniform_(0.5, 2)
    made.weights.uniform_(0.1, 1)
    if mixture is not None:
        learnt = {"weights": mixture.weights_, "means": mixture.means_, "variances": mixture.covariances_}
        for name, values in learnt.items():
            getattr(made, name).copy_(torch.from_numpy(values))
    return made


def noise(n: int, seconds: float = 1.0) -> torch.Tensor:
    return torch.randn(n, round(seconds * 16_000), generator=torch.Generator().manual_seed(0)) * 0.1


def test_frames_overlap_by_half() -> None:
    spectra, sounds = MelFrames(20, 512)(noise(2))
    assert spectra.shape == (2, (16_000 - 512) // 256 + 1, 20)
    assert sounds.all()


def test_derivatives_of_a_parabola() -> None:
    t = torch.arange(6.0)
    found = with_derivatives((t**2)[None, :, None])[0]
    assert found.shape == (6, 3)
    assert found[1:-1, 1].tolist() == pytest.approx((2 * t[1:-1]).tolist())
    assert found[1:-1, 2].tolist() == pytest.approx([2.0] * 4)


def test_posteriors_are_those_of_the_mixture_that_em_found() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(place, 1, (80, 9)) for place in (-2, 0, 2, 4)])
    mixture = GaussianMixture(4, covariance_type="diag", random_state=0).fit(x)
    found = codebook(mixture).posteriors(torch.from_numpy(x.astype(np.float32))[None])[0]
    assert found.numpy() == pytest.approx(mixture.predict_proba(x), abs=1e-4)


def test_pooling_over_windows_is_pooling_over_the_song() -> None:
    made, samples = codebook(), noise(3)
    samples[2, 8000:] = 0  # a window that silence fills up
    per_window = made(samples)
    heard = torch.cat([torch.zeros(3, 2 * 9), per_window], dim=1).numpy()
    pooled = taken_apart(heard, 8, SegmentConfig(most_segments=2)).timbral
    spectra, sounds = made.frames(samples)
    posteriors = made.posteriors(with_derivatives(made.low_level(spectra)))[sounds]  # (all frames that sound, 4)
    assert pooled[:4] == pytest.approx(posteriors.amax(dim=0).numpy(), abs=1e-5)
    assert pooled[4:] == pytest.approx(posteriors.mean(dim=0).numpy(), abs=1e-5)
    assert pooled[4:].sum() == pytest.approx(1, abs=1e-4)


def test_silence_gives_zeros() -> None:
    assert codebook()(torch.zeros(1, 16_000)).tolist() == [[0.0] * 9]
