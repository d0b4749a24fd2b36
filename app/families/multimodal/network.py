"""Identify: the paper's 1-D ResNet (§3.2), as it is trained and as it is served.

The feature vector is cut into positions of `step` numbers, its channels: Wang et al.'s three blocks of three convolutions,
average pooling over the positions, softmax. One position a number would tell a language by patterns of neighbouring numbers
alone, and learns none from a few thousand segments; the lab's README has the figures.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from app.domain import FloatArray
from app.families.multimodal.manifest import ResNetConfig, TimbralConfig
from app.families.multimodal.timbral import TimbralHistogram
from app.families.parts.probabilities import softmax

FARTHEST = 1e6  # standard deviations from the mean that a number counts as, so that the layers' sums stay finite
T = TypeVar("T", Tensor, FloatArray)


def residual(x: T, layers: Iterable[Callable[[T], T]], rectified: Callable[[T], T]) -> T:
    """A block: three layers beside a shortcut, added and rectified."""
    first, second, third, shortcut = layers
    return rectified(third(rectified(second(rectified(first(x))))) + shortcut(x))


class Positions(nn.Module):
    """Numbers of several modalities → a sequence. Zeros fill each up, so that no position holds numbers of two."""

    def __init__(self, sizes: Iterable[int], step: int) -> None:
        super().__init__()
        self._sizes, self._step = list(sizes), step

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) → (n, step, length)."""
        parts = [pad(part, (0, -part.shape[1] % self._step)) for part in torch.split(x, self._sizes, dim=1)]
        return torch.cat(parts, dim=1).view(len(x), -1, self._step).transpose(1, 2)


class SameConv(nn.Module):
    """Convolution over a sequence that keeps its length, and batch normalisation."""

    def __init__(self, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, bias=False)
        self.norm = nn.BatchNorm1d(n_out)
        self._ends = ((kernel - 1) // 2, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, length) → (n, out, length)."""
        return self.norm(self.conv(pad(x, self._ends)))  # type: ignore[no-any-return]


class MultimodalNetwork(nn.Module):
    """Feature vectors → logits; beside the ResNet it keeps what turns a song's sound into such vectors."""

    mean: Tensor
    scale: Tensor
    missing: Tensor

    def __init__(
        self, config: ResNetConfig, sizes: Mapping[str, int], n_classes: int, codebook: TimbralConfig | None = None
    ) -> None:
        super().__init__()
        self.sizes, self.channels, d = dict(sizes), config.channels, sum(sizes.values())
        self.noise = 0.0  # of what is missing in training (+G), in standard deviations of each number
        self.positions = Positions(sizes.values(), config.step)
        self.blocks = nn.ModuleList()
        for n_in, n_out in pairwise((config.step, *config.channels)):
            layers = [(n_in, config.kernels[0]), *((n_out, kernel) for kernel in config.kernels[1:]), (n_in, 1)]
            self.blocks.append(nn.ModuleList(SameConv(width, n_out, kernel) for width, kernel in layers))
        self.out = nn.Linear(config.channels[-1], n_classes)
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.ones(d))
        self.register_buffer("missing", torch.zeros(d))  # standardised; what stands for a number that is missing
        self.timbral = None if codebook is None else TimbralHistogram(codebook)

    def forward(self, x: Tensor) -> Tensor:
        """(n, d), NaN where a number is missing → (n, n_classes)."""
        missing = self.missing + self.noise * torch.randn_like(x) if self.training and self.noise else self.missing
        x = self.positions(torch.where(x.isnan(), missing, (x - self.mean) / self.scale))
        for block in self.blocks:
            x = residual(x, block, torch.relu)  # type: ignore[arg-type]
        return self.pooled(x)

    def pooled(self, x: Tensor) -> Tensor:
        """(n, channels, length) → (n, n_classes)."""
        return self.out(x.mean(dim=2))  # type: ignore[no-any-return]


class MultimodalHead:
    """The network as it is served: in NumPy, one matrix product a layer. Deterministic; any number of threads may call."""

    def __init__(self, network: MultimodalNetwork) -> None:
        network.eval()
        self._mean, self._scale, self._missing = (t.numpy() for t in (network.mean, network.scale, network.missing))
        ends = np.cumsum([0, *network.sizes.values()]).tolist()
        self._places = {name: slice(*own) for name, own in zip(network.sizes, pairwise(ends), strict=True)}
        length = network.positions(torch.zeros(1, ends[-1])).shape[2]
        enter: nn.Module = network.positions
        shape: tuple[int, ...] = (ends[-1],)
        self._blocks = []
        for block, channels in zip(network.blocks, network.channels, strict=True):
            assert isinstance(block, nn.ModuleList)
            first, second, third, shortcut = block
            inner = (channels, length)
            steps = {nn.Sequential(enter, first): shape, second: inner, third: inner, nn.Sequential(enter, shortcut): shape}
            self._blocks.append([_product(step, entering) for step, entering in steps.items()])
            enter, shape = nn.Identity(), inner
        self._pooled = _product(network.pooled, shape)

    def __call__(self, parts: Mapping[str, FloatArray]) -> FloatArray:
        """Numbers by modality, (n, size) or (size,) → (n, n_classes) probabilities."""
        n = max((len(part) for part in parts.values() if part.ndim == 2), default=1)
        x = np.tile(self._missing, (n, 1))
        for name, part in parts.items():
            own = self._places[name]
            with np.errstate(over="ignore"):
                x[:, own] = np.clip((part - self._mean[own]) / self._scale[own], -FARTHEST, FARTHEST)
        for block in self._blocks:
            x = residual(x, block, _rectified)
        return softmax(self._pooled(x))


@torch.no_grad()
def _product(step: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Callable[[FloatArray], FloatArray]:
    """A step that is linear in (n, *shape), with its padding and normalisation, as one matrix on rows."""
    size = math.prod(shape)
    bias = step(torch.zeros(1, *shape)).flatten()
    weight = (step(torch.eye(size).view(size, *shape)).flatten(1) - bias).numpy()
    added = bias.numpy()
    return lambda x: x @ weight + added


def _rectified(x: FloatArray) -> FloatArray:
    return np.maximum(x, 0, out=x)
