"""The pooled audio codebook histogram (§3.1.3): log-mel → PCA → derivatives → posteriors of a Gaussian mixture → pooling."""

import torch
from torch import Tensor, nn

from app.families.multimodal.manifest import TimbralConfig
from app.families.parts.configs import SAMPLE_RATE_HZ, MelConfig
from app.families.parts.log_mel import POWER_FLOOR, MelPower

SILENT_POWER = 1e-12  # of a frame in which nothing sounds, such as those that fill up a short window


class MelFrames(MelPower):
    """Samples → log-mel spectra of frames that overlap by half."""

    def __init__(self, n_mels: int, frame_samples: int) -> None:
        super().__init__(MelConfig(fft_size=frame_samples, hop_size=frame_samples // 2, mel_bands=n_mels), SAMPLE_RATE_HZ)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """(n, s) → (n, t, n_mels) decades of power, and (n, t) whether anything sounds."""
        level = samples.unfold(1, self.config.fft_size, self.config.hop_size).square().mean(dim=2)
        return self.power(samples, None).clamp_min(POWER_FLOOR).log10().transpose(1, 2), level > SILENT_POWER


def with_derivatives(x: Tensor) -> Tensor:
    """(n, t, p) → (n, t, 3p): the features, and their first and second derivatives by central differences."""
    wide = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)  # the ends stand still
    first = (wide[:, 2:] - wide[:, :-2]) / 2
    second = wide[:, 2:] - 2 * x + wide[:, :-2]
    return torch.cat([x, first, second], dim=2)


class TimbralHistogram(nn.Module):
    """Samples → maximum and mean over the frames of the codewords' posteriors, and how many frames there were."""

    mean: Tensor
    components: Tensor
    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, config: TimbralConfig) -> None:
        super().__init__()
        p, k = config.n_components, config.n_codewords
        self.frames = MelFrames(config.n_mels, config.frame_samples)
        for name, shape in {
            "mean": (config.n_mels,),
            "components": (p, config.n_mels),
            "weights": (k,),
            "means": (k, 3 * p),
            "variances": (k, 3 * p),
        }.items():
            self.register_buffer(name, torch.ones(shape))

    def forward(self, samples: Tensor) -> Tensor:
        """(n, s) → (n, 2k + 1); zeros where nothing sounds."""
        spectra, sounds = self.frames(samples)
        posteriors = self.posteriors(with_derivatives(self.low_level(spectra))) * sounds[:, :, None]  # (n, t, k)
        count = sounds.sum(dim=1, keepdim=True).float()  # (n, 1)
        mean = posteriors.sum(dim=1) / count.clamp_min(1)
        return torch.cat([posteriors.amax(dim=1), mean, count], dim=1)

    def low_level(self, spectra: Tensor) -> Tensor:
        """(n, t, n_mels) → (n, t, p) principal components."""
        return (spectra - self.mean) @ self.components.T

    def posteriors(self, x: Tensor) -> Tensor:
        """(n, t, 3p) → (n, t, k) of the mixture's components, whose covariances are diagonal."""
        means, precisions = self.means, 1 / self.variances
        constant = self.weights.log() - 0.5 * (precisions * means**2 - precisions.log()).sum(dim=1)
        logits = -0.5 * x.square() @ precisions.T + x @ (precisions * means).T + constant
        return logits.softmax(dim=2)
